"""What a notebook shows of messages and threads: everything said, as text, bounded, and nothing that is fetched."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memexllm.core import notebook
from memexllm.core.models import Message, Thread
from memexllm.testing._corpus import WIRES

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</td></tr></table><h1>mine</h1>",
    "\" onmouseover='alert(1)'",
    "&lt;b&gt; &amp; &#60;",
    "<!-- ",
    "]]><![CDATA[",
    "a $x^2$ b",
    "\u202eright to left",
    "two\nlines",
]
TAGS = {"table", "caption", "thead", "tbody", "tr", "th", "td"}
ATTRIBUTES = {"style", "class", "scope", "dir"}


class Page(HTMLParser):
    """The tags of a text, and what is read between them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: dict[str, set[str | None]] = {}
        self.cells: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        for name, value in attrs:
            self.attributes.setdefault(name, set()).add(value)
        if tag in ("th", "td", "caption"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.cells[-1] += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(f"a declaration: {decl}")


def shown(value: Any) -> Page:
    text = value._repr_html_()
    text.encode()
    page = Page(text)
    assert page.open == []
    assert page.tags <= TAGS
    assert page.attributes.keys() <= ATTRIBUTES
    return page


def content_of(message: Message) -> str:
    return shown(message).cells[-1]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_was_said_is_text_wherever_it_stands(text: str) -> None:
    call = {"id": text, "type": "function", "function": {"name": text, "arguments": text}}
    wire = {"role": "assistant", "content": text, "name": text, "refusal": text, "tool_calls": [call]}
    parts: list[dict[str, Any]] = [
        {"type": "text", "text": text},
        {"type": text, text: text},
        {"type": "image_url", "image_url": {"url": text}},
    ]
    messages = [Message(wire=wire), Message(parts, "user"), Message(text, "tool", tool_call_id=text)]
    page = shown(Thread(text or "t", title=text, messages=messages))
    assert sum(cell.count(text) for cell in page.cells) >= 12
    assert text in content_of(messages[0])


@pytest.mark.parametrize("text", ["\0", "a\x1bb", "\ud83d", "\x9f", "\ufffe"])
def test_what_html_has_no_characters_for_is_marked(text: str) -> None:
    assert "\ufffd" in content_of(Message(f"a{text}b", "user"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(HOSTILE),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "function", "name", "url", "id", "image_url", "arguments"])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    content=st.none()
    | st.text()
    | st.lists(st.text(max_size=9) | st.dictionaries(st.text(max_size=9), JSON, max_size=3)),
    fields=st.dictionaries(
        st.sampled_from(["name", "refusal", "tool_calls", "tool_call_id", "function_call", "audio", "other"]),
        JSON,
        max_size=4,
    ),
    alternatives=JSON,
)
def test_any_message_can_be_looked_at(content: Any, fields: dict[str, Any], alternatives: Any) -> None:
    message = Message(wire={"role": "assistant", "content": content, **fields})
    message.metadata["alternatives"] = alternatives
    shown(message)
    shown(Thread("t", messages=[message]))


@pytest.mark.parametrize("kind", WIRES)
def test_looking_changes_nothing(kind: str) -> None:
    message = Message(wire=WIRES[kind])
    thread = Thread("t", messages=[message])
    before = thread.model_copy(deep=True)
    shown(thread)
    assert thread == before


def test_a_thread_tells_who_said_what() -> None:
    thread = Thread("alice-1", title="Bread", messages=[Message("Hi", "user"), Message("Hello!", "assistant")])
    assert shown(thread).cells == [
        "Thread alice-1: Bread (2 messages)",
        "role",
        "content",
        "user",
        "Hi",
        "assistant",
        "Hello!",
    ]


def test_a_tool_exchange_is_told() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "Rome"}'}}
    assert content_of(Message(None, "assistant", tool_calls=[call])) == '[call c1] look({"at": "Rome"})'
    assert content_of(Message("sunny", "tool", tool_call_id="c1")) == "[result of c1]\nsunny"


def test_what_is_no_text_is_named() -> None:
    parts: list[dict[str, Any]] = [
        {"type": "text", "text": "Look:"},
        {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 8192}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"filename": "bread.pdf", "file_data": "AAAA"}},
    ]
    assert content_of(Message(parts, "user")).splitlines() == [
        "Look:",
        "[image: https://example.org/cat.png]",
        "[image: image/png, 7 kB]",
        "[input_audio: wav]",
        "[file: bread.pdf]",
    ]


def test_what_is_particular_about_a_message_stands_by_its_role() -> None:
    message = Message("Hi", "assistant", name="ann", status="incomplete", superseded=True, pinned=True)
    message.metadata["alternatives"] = [{"role": "assistant", "content": "Hello"}]
    assert shown(message).cells[-2] == "assistant ann (incomplete, superseded, pinned, 1 not chosen)"


def test_a_long_text_is_cut_and_the_rest_counted() -> None:
    cell = content_of(Message("x" * 12_345, "user"))
    assert cell == "x" * notebook.MAX_CHARS + f"… ({12_345 - notebook.MAX_CHARS:,} more characters)"


def test_of_a_long_thread_the_newest_are_shown() -> None:
    thread = Thread("t", messages=[Message(str(n), "user") for n in range(200)])
    cells = shown(thread).cells
    assert cells[0] == f"Thread t (200 messages, the newest {notebook.MAX_MESSAGES} shown)"
    assert cells[-1] == "199"
    assert "149" not in cells
    assert "150" in cells


def test_a_thread_read_in_part_says_so() -> None:
    thread = Thread("t", messages=[Message("b", "user")], partial=True, stored_messages=7)
    assert shown(thread).cells[0] == "Thread t (7 messages, 1 of them here)"


def test_what_is_shown_is_bounded() -> None:
    long = "<" * 100_000
    parts = [{"type": "text", "text": long}] * 100
    thread = Thread(long, title=long, messages=[Message(parts, "user", name=long) for _ in range(500)])
    # An escaped character has at most six, and the cells of a row their tags and styles.
    assert len(thread._repr_html_()) < notebook.MAX_MESSAGES * (6 * notebook.MAX_CHARS + 2000)


def test_a_table_of_anything_is_text() -> None:
    page = Page(notebook.table(["why", "n"], [["<b>", 1], ["too old", None]], caption="a & b"))
    assert page.cells == ["a & b", "why", "n", "<b>", "1", "too old", "None"]
    assert page.tags <= TAGS


def test_repr_still_shows_nothing_said() -> None:
    message = Message("the secret of the bread", "user")
    assert "bread" not in repr(message) + repr(Thread("t", messages=[message]))
