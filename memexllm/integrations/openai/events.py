"""Collect the events of a Responses stream into an answer: finished items, and unfinished text as far as it came."""

from __future__ import annotations

from typing import Any

from memexllm.integrations.openai.answers import Answer, get, usage_of
from memexllm.integrations.openai.items_read import Item, cleaned, draft_of_answer

_FINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})
_TEXTS = {"response.output_text.delta": "text", "response.refusal.delta": "refusal"}
NEVER_ANSWERED = frozenset({"failed", "cancelled", "queued", "in_progress"})
"""States of a response that is no answer (yet)."""


def answer_of_response(response: Any) -> Answer | None:
    """Of a response; None for one that failed or is not there yet: the thread stays as it was."""
    status = get(response, "status")
    if status in NEVER_ANSWERED:
        return None
    items = [cleaned(item) for item in get(response, "output") or ()]
    return _answer(response, [item for item in items if isinstance(item, dict)])


class Events:
    """What a stream of events has said so far."""

    def __init__(self) -> None:
        self._items: dict[int, Item] = {}
        self._texts: dict[tuple[int, int, str], list[str]] = {}
        self._response: Any = None
        self._final: Answer | None = None
        self._failed = False
        self.n_said = 0
        """Grows with everything an event adds; two equal counts mean that nothing was said in between."""

    def add(self, event: Any) -> bool:
        """Whether the answer is whole with this event."""
        kind = get(event, "type")
        key = _TEXTS.get(kind)
        if key is not None:
            place = (get(event, "output_index") or 0, get(event, "content_index") or 0, key)
            texts = self._texts.get(place)
            if texts is None:
                texts = self._texts[place] = []
            texts.append(get(event, "delta") or "")
            self.n_said += 1
            return False
        if kind == "response.output_item.done":
            item = cleaned(get(event, "item"))
            if isinstance(item, dict):
                index = get(event, "output_index")
                self._items[index if isinstance(index, int) else len(self._items)] = item
                self.n_said += 1
            return False
        response = get(event, "response")
        if response is not None:
            self._response = response
        if kind in _FINAL:
            self._final = answer_of_response(response)
            self._failed = self._final is None
            self.n_said += self._final is not None
            return self._final is not None
        return False

    @property
    def finished(self) -> bool:
        return self._final is not None

    @property
    def said_something(self) -> bool:
        if self._failed:  # what came out before is no answer, in a stream as little as in one piece
            return False
        return self._final is not None or bool(self._items) or any(map(any, self._texts.values()))

    def answer(self) -> Answer:
        if self._final is not None and self._final.items:
            return self._final
        return _answer(self._response, self._items_so_far())

    def _items_so_far(self) -> list[Item]:
        """Finished items, and the text of unfinished messages. Arguments that were cut in two are no call."""
        parts: dict[int, list[Item]] = {}
        for (output, _, key), texts in sorted(self._texts.items()):
            if output not in self._items and any(texts):
                kind = "output_text" if key == "text" else key
                parts.setdefault(output, []).append({"type": kind, key: "".join(texts)})
        unfinished = {
            output: {"type": "message", "role": "assistant", "content": content} for output, content in parts.items()
        }
        return [item for _, item in sorted({**self._items, **unfinished}.items())]


def _answer(response: Any, items: list[Item]) -> Answer:
    if not items:
        draft: Any = {"wire": None}
    else:
        draft = draft_of_answer(items)
    usage = get(response, "usage")
    return Answer(
        draft["wire"],
        finish_reason=_finish_reason(response),
        model=_text(get(response, "model")),
        response_id=_text(get(response, "id")),
        usage=None if usage is None else usage_of(usage),
        items=draft.get("items"),
    )


def _finish_reason(response: Any) -> str | None:
    """`completed`, or why the answer is incomplete (`max_output_tokens`, `content_filter`)."""
    reason = get(get(response, "incomplete_details"), "reason")
    return _text(reason) or _text(get(response, "status"))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
