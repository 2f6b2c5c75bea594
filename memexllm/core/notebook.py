"""HTML for notebooks: a conversation to look at, as tables in which everything said is text.

`repr` shows no content, for it ends up in logs; a notebook's cell is looked at by whoever wrote it. Nothing here loads
anything: an address is shown, never fetched. Colours are the page's own, so that dark pages stay dark.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from memexllm.core.wire import ALTERNATIVES

MAX_MESSAGES = 50
MAX_CHARS = 2000
"""Of one message; the rest is counted."""
MAX_NAME_CHARS = 80

_CELL = "text-align:start;vertical-align:top;white-space:pre-wrap;overflow-wrap:anywhere"
# Both classes keep MathJax, which notebooks run over HTML, from reading prices as formulas.
_TABLE = '<table class="tex2jax_ignore mathjax_ignore" style="text-align:start">'
# What HTML has no characters for (NUL and its kind, halves of characters) is shown as U+FFFD.
_UNSHOWABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class MessageShown(Protocol):
    wire: dict[str, Any]
    metadata: dict[str, Any]
    status: Any
    superseded: bool
    pinned: bool


class ThreadShown(Protocol):
    id: str
    title: str | None
    partial: bool

    @property
    def messages(self) -> Sequence[MessageShown]: ...
    @property
    def message_count(self) -> int: ...


def table(headers: Sequence[object], rows: Iterable[Sequence[object]], *, caption: str = "") -> str:
    """An HTML table of texts: cells are escaped and cut at `MAX_CHARS`; the first of a row is its header."""
    head = "".join(f'<th scope="col" style="{_CELL}">{escaped(header)}</th>' for header in headers)
    body = "".join(_row(row) for row in rows)
    described = f'<caption style="{_CELL}">{escaped(caption)}</caption>' if caption else ""
    return f"{_TABLE}{described}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def escaped(value: object, max_chars: int = MAX_CHARS) -> str:
    """Text as HTML, for between tags and in quoted attributes; what is cut off is counted."""
    text = value if isinstance(value, str) else str(value)
    shown = html.escape(_UNSHOWABLE.sub("\ufffd", text[:max_chars]))
    n_left = len(text) - max_chars
    return f"{shown}… ({n_left:,} more characters)" if n_left > 0 else shown


def message_html(message: MessageShown) -> str:
    """The message as a table of one row: who, and what was said."""
    return table(("role", "content"), [_message_cells(message)])


def thread_html(thread: ThreadShown) -> str:
    """The newest `MAX_MESSAGES` of the messages that are loaded."""
    messages = thread.messages
    n_live = thread.message_count
    caption = f"Thread {_cut(thread.id)}"
    if thread.title:
        caption += f": {_cut(thread.title)}"
    caption += f" ({n_live:,} message{'' if n_live == 1 else 's'}"
    shown = messages[-MAX_MESSAGES:]
    if len(shown) < len(messages):
        caption += f", the newest {len(shown)} shown"
    elif thread.partial:
        caption += f", {len(shown):,} of them here"
    return table(("role", "content"), map(_message_cells, shown), caption=caption + ")")


def _row(cells: Sequence[object]) -> str:
    tags = (("th", ' scope="row"') if place == 0 else ("td", "") for place in range(len(cells)))
    # dir="auto" also keeps a right-to-left mark in one cell from turning the others around.
    made = (
        f'<{tag}{scope} dir="auto" style="{_CELL}">{escaped(cell)}</{tag}>'
        for (tag, scope), cell in zip(tags, cells, strict=True)
    )
    return f"<tr>{''.join(made)}</tr>"


def _message_cells(message: MessageShown) -> tuple[str, str]:
    wire = message.wire
    who = _cut(_text(wire.get("role")))
    if wire.get("name"):
        who += f" {_cut(_text(wire['name']))}"
    marks = [] if message.status == "complete" else [str(message.status)]
    marks += [name for name in ("superseded", "pinned") if getattr(message, name)]
    alternatives = message.metadata.get(ALTERNATIVES)
    if isinstance(alternatives, list) and alternatives:
        marks.append(f"{len(alternatives)} not chosen")
    who += f" ({', '.join(marks)})" if marks else ""
    return who, "\n".join(_said(wire))


def _said(wire: Mapping[str, Any]) -> Iterable[str]:
    if wire.get("tool_call_id"):
        yield f"[result of {_cut(_text(wire['tool_call_id']))}]"
    content = wire.get("content")
    if content is not None:
        yield from map(_part, content) if isinstance(content, list) else [_text(content)]
    if wire.get("refusal"):
        yield f"[refused] {_text(wire['refusal'])}"
    if wire.get("audio"):
        yield _part({"type": "audio", "audio": wire["audio"]})
    calls = wire.get("tool_calls")
    for call in calls if isinstance(calls, list) else [calls] if calls else []:
        yield _call(call)
    if wire.get("function_call"):
        yield _call({"function": wire["function_call"]})


def _part(part: Any) -> str:
    if not isinstance(part, Mapping):
        return _text(part)
    kind = _cut(_text(part.get("type") or "part"))
    held = part.get(kind)
    if isinstance(held, str):
        return held if kind == "text" else f"[{kind}] {held}"
    if not isinstance(held, Mapping):
        return f"[{kind}]"
    address = held.get("url")
    if isinstance(address, str):
        return f"[image: {_place(address)}]" if kind == "image_url" else f"[{kind}: {_place(address)}]"
    known = [_cut(_text(held[key])) for key in ("filename", "file_id", "format") if held.get(key)]
    said = f" {_text(held['transcript'])}" if held.get("transcript") else ""
    return f"[{': '.join([kind, *known])}]{said}"


def _place(address: str) -> str:
    """An address as text; of one that holds its data, the type and size."""
    if not address.startswith("data:"):
        return address
    header, _, encoded = address.partition(",")
    media_type = header.removeprefix("data:").partition(";")[0] or "data"
    return f"{_cut(media_type)}, {len(encoded) * 3 // 4 // 1024 + 1:,} kB"


def _call(call: Any) -> str:
    called = call.get("function") or call.get("custom") if isinstance(call, Mapping) else None
    if not isinstance(called, Mapping):
        return f"[call] {_text(call)}"
    given = called.get("arguments", called.get("input", ""))
    call_id = call.get("id")
    return f"[call{f' {_cut(_text(call_id))}' if call_id else ''}] {_cut(_text(called.get('name')))}({_text(given)})"


def _text(value: Any) -> str:
    """Foreign JSON as text: a string as it is, anything else as its JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _cut(name: str) -> str:
    return name if len(name) <= MAX_NAME_CHARS else f"{name[:MAX_NAME_CHARS]}…"
