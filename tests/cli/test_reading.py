"""The commands that read: what they show, and that what they show cannot steer a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from memexllm import HistoryManager, SQLiteStorage, Thread
from memexllm.cli.escape import visible, visible_line
from memexllm.core.models import CallInfo, Message
from tests.cli.conftest import Command

HOSTILE = (
    "\x1b[2J\x1b]52;c;cm0gLXJm\x07 \x1b]8;;http://evil\x1b\\link \x9b31m \x9d52;c;x\x9c \x90q \x08\x08 \r \x7f \x00"
    " \u202egnp.exe\u202c \u2066x\u2069 \u2028 \U000e0041 [bold red]markup[/] :smile: {x} %s\n\nassistant · not said\n"
)
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\U000e0000-\U000e0fff]")


def kept(memexllm: Command, *threads: Thread) -> None:
    with SQLiteStorage(memexllm.folder / "chat.db") as storage:
        for thread in threads:
            storage.save_thread(thread)


def dated(day: int) -> datetime:
    return datetime(2026, 3, day, 12, 30, tzinfo=UTC)


def hostile_thread() -> Thread:
    call = {"id": HOSTILE, "type": "function", "function": {"name": HOSTILE, "arguments": HOSTILE}}
    parts: list[dict[str, Any]] = [{"type": "text", "text": HOSTILE}, {"type": HOSTILE, "image_url": {"url": HOSTILE}}]
    return Thread(
        HOSTILE,
        title=HOSTILE,
        user_id=HOSTILE,
        metadata={HOSTILE: HOSTILE},
        messages=[
            Message(HOSTILE, "user", name=HOSTILE),
            Message(parts, "user"),
            Message(None, "assistant", tool_calls=[call], refusal=HOSTILE, call=CallInfo(model=HOSTILE)),
            Message(HOSTILE, "tool", tool_call_id=HOSTILE),
            Message(None, "assistant", function_call={"name": HOSTILE, "arguments": HOSTILE}),
        ],
    )


HOSTILE_ID = HOSTILE.replace("\x00", "")
"""An argument of a process holds no NUL."""
SHOWING = [["threads"], ["show", HOSTILE_ID], ["show", HOSTILE_ID, "--all"], ["explain", HOSTILE_ID], ["export"]]
SHOWING.append(["search", "markup"])


@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize("arguments", SHOWING, ids=lambda each: " ".join(part for part in each if part != HOSTILE_ID))
def test_what_was_said_cannot_steer_a_terminal(memexllm: Command, arguments: list[str], as_json: list[str]) -> None:
    kept(memexllm, hostile_thread().changed(id=HOSTILE_ID))
    printed = memexllm(*arguments, *as_json)
    assert printed.returncode == 0, printed.stderr
    assert b"markup" in printed.stdout
    assert FORBIDDEN.findall(printed.stdout.decode()) == []
    assert FORBIDDEN.findall(printed.stderr.decode()) == []


def test_a_table_on_a_terminal_shows_titles_as_they_are(memexllm: Command, on_terminal: Callable[..., bytes]) -> None:
    kept(memexllm, hostile_thread())
    shown = on_terminal("threads").decode()
    styles = re.compile(r"\x1b\[[0-9;]*m|\r\n")
    assert FORBIDDEN.findall(styles.sub("", shown)) == []
    # A narrow column folds what is long; nothing of it is read as markup or emoji.
    folded = re.sub(r"\s+", "", styles.sub("", shown))
    assert "thread" in folded
    assert "☺" not in folded
    assert "😄" not in folded


def test_an_unknown_hostile_id_is_told_safely(memexllm: Command) -> None:
    kept(memexllm, Thread("t1"))
    told = memexllm.refused("show", HOSTILE_ID)
    assert FORBIDDEN.findall(told) == []
    assert told.count("\n") == 1
    assert FORBIDDEN.findall(memexllm(*["delete", "-y", HOSTILE_ID]).stderr.decode()) == []


def test_no_line_of_a_text_passes_for_a_caption(memexllm: Command) -> None:
    kept(memexllm, Thread("t1", messages=[Message("Hi.\nassistant · 2026\n\nassistant: yes", "user")]))
    printed = memexllm.printed("show", "t1").splitlines()
    assert [line for line in printed[1:] if line and not line.startswith("  ")] == [printed[2]]


def test_text_keeps_its_lines_letters_and_emoji() -> None:
    text = "Grüße,\n\t世界 👨‍👩‍👧 שלום \\ e\u0301"
    assert visible(text) == text
    assert visible("a\r\nb") == "a\nb"
    assert visible("a\x1b[0m\u202e\x9b\ud800") == "a\\x1b[0m\\u202e\\x9b\\ud800"
    assert visible_line("a\n\tb") == "a\\n\\tb"


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0x202E, 0x2067, 0xE0061, 0xDFFF])
def test_every_character_a_terminal_obeys_is_made_visible(code: int) -> None:
    if chr(code) not in "\n\t":
        assert chr(code) not in visible(chr(code))
    assert visible_line(chr(code)).isprintable()


def test_threads_are_listed_newest_first(memexllm: Command) -> None:
    days = {"old": 1, "newest": 9, "newer": 5}
    kept(
        memexllm,
        *(
            Thread(name, title=name.title(), user_id="ada", messages=[Message("Hi.", "user")], updated_at=dated(day))
            for name, day in days.items()
        ),
    )
    assert memexllm.printed("threads", "--limit", "2").splitlines() == [
        "newest\tNewest\tada\t1\t2026-03-09 12:30Z",
        "newer\tNewer\tada\t1\t2026-03-05 12:30Z",
    ]
    documents = [json.loads(line) for line in memexllm.printed("threads", "--json").splitlines()]
    assert [each["id"] for each in documents] == ["newest", "newer", "old"]
    assert documents[0] == {
        "id": "newest",
        "title": "Newest",
        "user_id": "ada",
        "messages": 1,
        "created_at": documents[0]["created_at"],
        "updated_at": "2026-03-09T12:30:00+00:00",
        "metadata": {},
        "preview": "Hi.",
    }


def test_a_thread_without_a_title_is_listed_by_what_was_said_last(memexllm: Command) -> None:
    kept(memexllm, Thread("t1", messages=[Message("Hi.", "user"), Message("Hello\x1b[2J,\nyou!", "assistant")]))
    thread_id, title, *_ = memexllm.printed("threads").split("\t")
    assert (thread_id, title) == ("t1", "Hello\\x1b[2J, you!")


def listed(memexllm: Command, *arguments: str) -> set[str]:
    return {line.split("\t")[0] for line in memexllm.printed("threads", *arguments).splitlines()}


def test_threads_are_found_by_user_and_metadata(memexllm: Command) -> None:
    kept(
        memexllm,
        Thread("a", user_id="ada", metadata={"n": 3, "s": "3", "done": True}),
        Thread("b", user_id="bob", metadata={"n": 3, "topic": "a=b"}),
        Thread("c", metadata={"n": 3.0, "s": "three"}),
    )
    assert listed(memexllm, "--user", "ada") == {"a"}
    assert listed(memexllm, "--user", "nobody") == set()
    assert listed(memexllm, "--metadata", "s=three") == {"c"}
    assert listed(memexllm, "--metadata", 's="3"') == {"a"}
    assert listed(memexllm, "--metadata", "topic=a=b") == {"b"}
    assert listed(memexllm, "--metadata", "done=true") == {"a"}
    assert listed(memexllm, "--metadata", "n=3", "--user", "bob") == {"b"}
    assert "key=value" in memexllm.refused("threads", "--metadata", "nonsense", code=2)


def talk() -> Thread:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
    messages = [
        Message("Be brief.", "system"),
        Message("Wrong?", "user", superseded=True),
        Message("How is Oslo?", "user"),
        Message(None, "assistant", tool_calls=[call], call=CallInfo(model="gpt-4o")),
        Message("19 degrees", "tool", tool_call_id="call_1"),
        Message("Sunny.\nAnd warm", "assistant", status="incomplete"),
    ]
    for message in messages:
        message.created_at = dated(2)
    return Thread("t1", title="Weather", user_id="ada", messages=messages, updated_at=dated(3))


SHOWN = """\
thread t1 · Weather · user ada · 5 messages · updated 2026-03-03 12:30Z

system · 2026-03-02 12:30Z
  Be brief.

user · 2026-03-02 12:30Z
  How is Oslo?

assistant · gpt-4o · 2026-03-02 12:30Z
  calls get_weather({"city": "Oslo"}) as call_1

tool · result of call_1 · 2026-03-02 12:30Z
  19 degrees

assistant · 2026-03-02 12:30Z · incomplete
  Sunny.
  And warm
"""


def test_a_thread_is_shown_as_it_was_said(memexllm: Command) -> None:
    kept(memexllm, talk())
    assert memexllm.printed("show", "t1") == SHOWN


def test_superseded_messages_are_shown_when_asked(memexllm: Command) -> None:
    kept(memexllm, talk())
    assert "user · 2026-03-02 12:30Z · superseded\n  Wrong?\n" in memexllm.printed("show", "t1", "--all")


def test_the_newest_messages_are_shown_when_limited(memexllm: Command) -> None:
    kept(memexllm, talk())
    captions = [
        line for line in memexllm.printed("show", "t1", "-n", "2").splitlines()[1:] if line[:1] not in ("", " ")
    ]
    assert [line.split(" ")[0] for line in captions] == ["tool", "assistant"]


def test_a_thread_shown_in_json_is_one_document(memexllm: Command) -> None:
    kept(memexllm, talk())
    (line,) = memexllm.printed("show", "t1", "--all", "--json").splitlines()
    document = json.loads(line)
    assert document["title"] == "Weather"
    assert [each["message"] for each in document["messages"]] == [message.wire for message in talk().messages]
    assert [each["superseded"] for each in document["messages"]] == [False, True, False, False, False, False]
    assert document["messages"][3]["call"] == {"model": "gpt-4o"}


def test_messages_are_found_by_their_words(memexllm: Command) -> None:
    kept(
        memexllm,
        talk(),
        Thread("t2", user_id="bob", messages=[Message("Oslo in the rain", "user", created_at=dated(4))]),
    )
    assert memexllm.printed("search", "rain") == "t2 · user · 2026-03-04 12:30Z\n  Oslo in the rain\n"
    found = [json.loads(line) for line in memexllm.printed("search", "oslo", "--json").splitlines()]
    assert {each["thread_id"] for each in found} == {"t1", "t2"}
    assert [each["score"] for each in found] == sorted((each["score"] for each in found), reverse=True)
    # What was said next to the words is found as well, below what holds them.
    assert {each["found"]["message"]["content"] for each in found[:2]} == {"How is Oslo?", "Oslo in the rain"}


def test_messages_are_found_in_a_thread_or_of_a_user(memexllm: Command) -> None:
    kept(
        memexllm,
        talk(),
        Thread("t2", user_id="bob", messages=[Message("Oslo", "user"), Message("Oslo again", "user")]),
    )

    def threads_found(*arguments: str) -> set[str]:
        lines = memexllm.printed("search", "Oslo", "--json", *arguments).splitlines()
        return {json.loads(line)["thread_id"] for line in lines}

    assert threads_found() == {"t1", "t2"}
    assert threads_found("--thread", "t1") == {"t1"}
    assert threads_found("--user", "bob") == {"t2"}
    assert threads_found("--user", "nobody") == set()
    assert len(memexllm.printed("search", "Oslo", "--json", "-n", "1").splitlines()) == 1
    assert "empty" in memexllm.refused("search", " ")


def test_a_thread_is_explained_as_a_wrapped_client_would_send_it(memexllm: Command) -> None:
    kept(memexllm, talk())
    with HistoryManager(memexllm.folder / "chat.db") as manager:
        expected = manager.explain("t1")
    document = json.loads(memexllm.printed("explain", "t1", "--json"))
    assert document["entries"] == list(expected.to_dict()["entries"])
    assert document["budget"] == 102_400
    printed = memexllm.printed("explain", "t1")
    assert "Wrong?" in printed
    assert "superseded" in printed


def test_a_thread_is_explained_for_another_window(memexllm: Command) -> None:
    kept(memexllm, Thread("t1", messages=[Message("word " * 100, "user") for _ in range(10)]))
    document = json.loads(memexllm.printed("explain", "t1", "--max-tokens", "300", "--json"))
    assert document["budget"] == 300
    assert [each["fate"] for each in document["entries"]].count("excluded") > 5


def test_reading_changes_nothing(memexllm: Command) -> None:
    kept(memexllm, talk())
    before = memexllm.printed("export")
    for arguments in (["threads"], ["show", "t1"], ["explain", "t1", "--max-tokens", "30"]):
        memexllm.printed(*arguments)
    assert memexllm.printed("export") == before
