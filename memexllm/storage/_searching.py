"""Search without an index: a query read as words, and a bounded scan that ranks as the index does.

What is ranked is a message with its surroundings: the words of its own text weigh 1, those of the messages said just
before and after it one half. An answer is often found by the words of its question.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from math import log
from typing import Any

from memexllm.core.errors import ValidationError
from memexllm.core.flow import Flow, call
from memexllm.core.hits import MessageHit
from memexllm.core.models import Message, Thread
from memexllm.core.moments import to_micros
from memexllm.core.wire import text_of
from memexllm.storage._defaults import load, storage_blocks
from memexllm.storage._words import Phrase, phrases_of, refuse_surrogates, snippet_of, stemmed, stems_of

SCANNED_MESSAGES = 20_000
"""How many messages the contract's default looks at: the newest of each thread, threads created last first."""
TURN_WEIGHT, NEIGHBOURS_WEIGHT = 1.0, 0.5
NEIGHBOUR_CHARS = 500
"""How much of a neighbour is looked at: one long text must not bury what stands beside it."""
PAUSE_MICROS = 3_600_000_000
"""Messages with a longer pause between them are no neighbours."""

_PAGE = 100
# BM25 as FTS5 computes it; a word in more than half of the messages still orders them.
_K1, _B, _LEAST_IDF = 1.2, 0.75, 1e-6


@dataclass(frozen=True, slots=True)
class Query:
    """A checked query. `phrases` are as written, `stems` what they are compared by."""

    phrases: tuple[Phrase, ...]
    stems: frozenset[Phrase]
    limit: int


def checked_query(text: Any, thread_id: Any, user_id: Any, limit: Any) -> Query:
    """Refuses what is no query. The text is words, whatever signs stand between them."""
    if not isinstance(text, str):
        raise ValidationError(f"Search query must be a string, got {type(text).__name__}")
    if not text.strip():
        raise ValidationError("Search query cannot be empty; give the words to look for")
    for what, name in (("thread", thread_id), ("user", user_id)):
        if name is not None and not isinstance(name, str):
            raise ValidationError(f"{what.capitalize()} ID must be a string, got {type(name).__name__}")
        refuse_surrogates(name or "", f"{what} id")
    if thread_id == "":
        raise ValidationError("Thread ID cannot be empty; leave thread_id out to search every thread")
    if not isinstance(limit, int) or limit < 1:
        raise ValidationError(f"Limit must be a positive integer, got {limit!r}")
    refuse_surrogates(text, "search query")
    phrases = phrases_of(text)
    return Query(tuple(phrases), frozenset(stems_of(phrase) for phrase in phrases), limit)


def said(wire: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    """What is searched of a message: `speaker: text`; empty when it says nothing."""
    text = text_of(wire) or wire.get("refusal")
    if not isinstance(text, str) or not text.strip():
        return ""
    speaker = wire.get("name") or metadata.get("speaker")
    return f"{speaker}: {text}" if isinstance(speaker, str) else text


def beside(moment: int, other: int) -> bool:
    """Whether two messages with these times (microseconds) can be neighbours."""
    return abs(moment - other) <= PAUSE_MICROS


def hit(thread_id: str, message: Message, score: float, query: Query) -> MessageHit:
    snippet, highlights = snippet_of(message.text or message.refusal or "", query.stems)
    return MessageHit(thread_id, message, score, snippet, highlights)


def search_messages(
    storage: Any, text: str, thread_id: str | None, user_id: str | None, limit: int
) -> Flow[list[MessageHit]]:
    """The contract's default, over the four methods."""
    query = checked_query(text, thread_id, user_id, limit)
    found: list[tuple[str, list[Message]]] = []
    left = SCANNED_MESSAGES
    for each in [thread_id] if thread_id is not None else (yield from _newest_ids(storage)):
        thread = yield from load(storage, each)
        if thread is None or (user_id is not None and thread.user_id != user_id):
            continue
        live = [message for message in thread.messages if not message.superseded][-left:]
        found.append((thread.id, live))
        left -= len(live)
        if left <= 0:
            break
    # A worker thread under asyncio: this is all computation.
    hits: list[MessageHit] = yield from call(ranked, query, found)
    return hits


def _newest_ids(storage: Any) -> Flow[list[str]]:
    ids: dict[str, None] = {}
    blocking = storage_blocks(storage)
    while True:
        page: list[Thread] = yield from call(storage.list_threads, _PAGE, len(ids), blocking=blocking)
        n_known = len(ids)
        ids.update(dict.fromkeys(thread.id for thread in page))
        if len(ids) < n_known + _PAGE:
            return list(reversed(ids))


@dataclass(slots=True)
class _Candidate:
    thread_id: str
    message: Message
    own: Counter[Phrase]
    near: Counter[Phrase]
    n_words: int


def ranked(query: Query, threads: Sequence[tuple[str, Sequence[Message]]], n_messages: int = 0) -> list[MessageHit]:
    """The best of these messages, as FTS5's bm25() orders them; later ones first among equals.

    `n_messages` is how many there are of which these were chosen, for their holding some of the words.
    """
    candidates = [found for thread_id, messages in threads for found in _candidates(query, thread_id, messages)]
    if not candidates:
        return []
    n_messages = max(n_messages, len(candidates))
    average = sum(each.n_words for each in candidates) / len(candidates)
    weights: dict[Phrase, float] = {}
    for phrase in query.stems:
        n_with = sum(phrase in each.own or phrase in each.near for each in candidates)
        weights[phrase] = max(_LEAST_IDF, log((n_messages - n_with + 0.5) / (n_with + 0.5)))
    scored = [(_score(each, weights, average), each) for each in candidates if each.own or each.near]
    scored.sort(key=lambda pair: (pair[0], pair[1].message.seq or 0), reverse=True)
    return [hit(each.thread_id, each.message, score, query) for score, each in scored[: query.limit]]


def _candidates(query: Query, thread_id: str, messages: Sequence[Message]) -> list[_Candidate]:
    """The messages that say something, each with how often it and its neighbours hold the phrases."""
    speaking = [(message, text) for message in messages if (text := said(message.wire, message.metadata))]
    counts: list[tuple[Counter[Phrase], int]] = []
    heads: list[tuple[Counter[Phrase], int]] = []
    for _, text in speaking:
        counts.append(_counted(query, text))
        heads.append(counts[-1] if len(text) <= NEIGHBOUR_CHARS else _counted(query, text[:NEIGHBOUR_CHARS]))
    found: list[_Candidate] = []
    for index, (message, _) in enumerate(speaking):
        own, n_words = counts[index]
        near: Counter[Phrase] = Counter()
        for other in (index - 1, index + 1):
            if 0 <= other < len(speaking) and _are_beside(message, speaking[other][0]):
                near.update(heads[other][0])
                n_words += heads[other][1]
        found.append(_Candidate(thread_id, message, own, near, n_words))
    return found


def _are_beside(message: Message, other: Message) -> bool:
    return beside(to_micros(message.created_at), to_micros(other.created_at))


def _counted(query: Query, text: str) -> tuple[Counter[Phrase], int]:
    stems = stemmed(text)
    phrases: Iterator[Phrase] = chain(((each,) for each in stems), pairwise(stems))
    found = Counter(phrase for phrase in phrases if phrase in query.stems)
    return found, len(stems)


def _score(candidate: _Candidate, weights: Mapping[Phrase, float], average: float) -> float:
    length = _K1 * (1 - _B + _B * candidate.n_words / average)
    score = 0.0
    for phrase in candidate.own.keys() | candidate.near.keys():
        frequency = TURN_WEIGHT * candidate.own[phrase] + NEIGHBOURS_WEIGHT * candidate.near[phrase]
        score += weights[phrase] * frequency * (_K1 + 1) / (frequency + length)
    return score
