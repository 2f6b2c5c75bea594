"""Answers to questions about what was said earlier, from the request's messages alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

from memexllm.testing.server.jsontypes import JSONObject
from memexllm.testing.server.received import text_of

_WHAT_IS_MY = re.compile(
    r"\b(?:what(?:[\u2019']?s| is| are| was| were)|know|remember) my ([^?.!\n]+?)\s*(?:[?.!\n]|$)",
    re.IGNORECASE,
)
_WHAT_DID_I_SAY = re.compile(r"\bwhat (?:did I say|have I said) about ([^?.!\n]+?)\s*(?:[?.!\n]|$)", re.IGNORECASE)
_HOW_MANY_MESSAGES = re.compile(r"\bhow many messages\b", re.IGNORECASE)

_SENTENCE_REST = r"(.+?)(?=[.!?](?:\s|$)|,? and my |\n|$)"
_NAME = r"([^\W\d_][\w'\u2019-]*(?: [A-Z][\w'\u2019-]*)*)"
# Only a capitalised word after "I am" is a name: "I am tired" is none.
_NAME_STATEMENTS = (
    re.compile(rf"\b(?i:my name is|user['\u2019]s name is|call me) {_NAME}"),
    re.compile(r"\bI(?: am|['\u2019]m) ([A-Z][\w'\u2019-]*(?: [A-Z][\w'\u2019-]*)*)"),
)


def recall(messages: list[JSONObject]) -> str | None:
    """The answer to the last user message if that asks about the conversation, else None.

    Facts may also stand in system and developer messages ("the user's name is Ada"), where summaries
    and memories are put; the newest statement counts.
    """
    position = next((i for i in reversed(range(len(messages))) if messages[i]["role"] == "user"), None)
    if position is None:
        return None
    question = text_of(messages[position])
    if _HOW_MANY_MESSAGES.search(question):
        return f"I received {len(messages)} messages."
    if asked := _WHAT_DID_I_SAY.search(question):
        return _quotes(messages[:position], asked[1])
    if asked := _WHAT_IS_MY.search(question):
        stated = list(_statements(messages[: position + 1]))
        return _name(stated) if asked[1].lower() == "name" else _fact(stated, asked[1])
    return None


def _statements(messages: list[JSONObject]) -> Iterator[str]:
    """What the user said or is said about the user, newest first."""
    for message in reversed(messages):
        if message["role"] in ("user", "system", "developer"):
            yield text_of(message)


def _last_match(patterns: tuple[re.Pattern[str], ...], texts: list[str]) -> re.Match[str] | None:
    for pattern in patterns:
        for text in texts:
            if found := list(pattern.finditer(text)):
                return found[-1]
    return None


def _name(texts: list[str]) -> str:
    found = _last_match(_NAME_STATEMENTS, texts)
    return f"Your name is {found[1]}." if found else "I don't know your name."


def _fact(texts: list[str], thing: str) -> str:
    words = r"\s+".join(map(re.escape, thing.split()))
    stated = rf"\b(?:my|user['\u2019]s) {words} (is|are|was|were) {_SENTENCE_REST}"
    pattern = re.compile(stated, re.IGNORECASE)
    found = _last_match((pattern,), texts)
    return f"Your {thing} {found[1].lower()} {found[2]}." if found else f"I don't know your {thing}."


def _quotes(messages: list[JSONObject], topic: str) -> str:
    said = [text_of(message) for message in messages if message["role"] == "user"]
    quotes = [text for text in said if topic.lower() in text.lower() and not _WHAT_DID_I_SAY.search(text)]
    if not quotes:
        return f"You have not said anything about {topic}."
    return "You said: " + "; ".join(f'"{quote}"' for quote in quotes)
