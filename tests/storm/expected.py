"""What a thread must hold: a plain list of what was said, changed step by step by the rules and not by the code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from memexllm import Message

Wire = dict[str, Any]
BLOCK_ROLES = ("system", "developer")


@dataclass(frozen=True)
class Said:
    """One message, as far as the model knows it."""

    role: str
    text: str | None = None
    calls: tuple[str, ...] = ()
    result_of: str | None = None
    status: str = "complete"
    turn_id: str | None = None
    others: tuple[str | None, ...] = ()
    """The other choices of an answer."""

    @property
    def wire(self) -> Wire:
        """How a caller of chat passes it."""
        wire: Wire = {"role": self.role, "content": self.text}
        if self.calls:
            wire["tool_calls"] = [
                {"id": call, "type": "function", "function": {"name": "look", "arguments": "{}"}} for call in self.calls
            ]
        return wire if self.result_of is None else {**wire, "tool_call_id": self.result_of}

    @property
    def items(self) -> list[Wire]:
        """How a caller of responses passes it."""
        if self.result_of is not None:
            return [{"type": "function_call_output", "call_id": self.result_of, "output": self.text}]
        said = [{"role": self.role, "content": self.text}] if self.text else []
        calls = [{"type": "function_call", "call_id": call, "name": "look", "arguments": "{}"} for call in self.calls]
        return [*said, *calls]


def said_by(wire: Wire) -> Said:
    """A message of a request, or of the storage."""
    content = wire.get("content")
    if isinstance(content, list):
        content = "".join(str(part["text"]) for part in content)
    calls = tuple(call["id"] for call in wire.get("tool_calls") or ())
    return Said(wire["role"], content or None, calls, wire.get("tool_call_id"))


def stored(message: Message) -> Said:
    others = tuple(other.get("content") or None for other in message.alternatives)
    return replace(said_by(message.wire), status=message.status, turn_id=message.turn_id, others=others)


def as_sent(said: Sequence[Said]) -> list[Said]:
    """As a request carries it: its words only, and no calls without all their results directly behind them."""
    sent: list[Said] = []
    for index, each in enumerate(said):
        results = [one.result_of for one in said[index + 1 : index + 1 + len(each.calls)]]
        if each.calls and set(results) != set(each.calls):
            continue
        sent.append(Said(each.role, each.text, each.calls, each.result_of))
    return sent


@dataclass
class Expected:
    """The thread: `live` in the order of the log, the block among it; `gone` is what was superseded, in any order."""

    live: list[Said] = field(default_factory=list[Said])
    gone: list[Said] = field(default_factory=list[Said])
    block: Said | None = None

    @property
    def conversation(self) -> list[Said]:
        """What is live without the block, and without what a call wrote down and never got an answer for."""
        return [each for each in self.live if each is not self.block and each.status != "pending"]

    def to_send(self, history: Sequence[Said], new: Sequence[Said], block: Said | None) -> list[Said]:
        first = block or self.block
        return as_sent([*([] if first is None else [first]), *history, *new])

    def write_down(self, new: Sequence[Said], *, stays: bool) -> None:
        """What a call brings, before its request; with its answer, or without, it is superseded, unless it `stays`."""
        pending = [replace(each, status="pending", turn_id=None) for each in new]
        (self.live if stays else self.gone).extend(pending)

    def add(
        self, new: Sequence[Said], answer: Said | None, block: Said | None = None, turn_id: str | None = None
    ) -> None:
        """One call's write; nothing at all when no answer came."""
        if answer is None:
            return
        if block is not None and block != self.block:
            if self.block is not None:
                self.live.remove(self.block)
                self.gone.append(self.block)
            self.block = block
            self.live.append(block)
        self.live += [replace(each, turn_id=turn_id) for each in (*new, answer)]

    def supersede(self, taken: Sequence[Said], block: Said | None) -> None:
        """A call takes the place of messages. When they are the thread's end, all goes that lies there.

        A block among it is written again, unless a new one comes.
        """
        if not taken or list(taken) != self.conversation[-len(taken) :]:
            self.live = [each for each in self.live if each not in taken]
            self.gone += taken
            return
        at = self.live.index(taken[0])
        end, self.live = self.live[at:], self.live[:at]
        self.gone += end
        if self.block in end:
            if block is None or block == self.block:
                assert self.block is not None
                self.live.append(self.block)
            else:
                self.block = None

    def edit(self, original: Said, text: str) -> None:
        self.take_back(original)
        self.live.append(replace(original, text=text, status="complete"))

    def select(self, answer: Said, index: int) -> None:
        """The answer and its alternative change places."""
        others = list(answer.others)
        text, others[index] = others[index], answer.text
        self.live[self.live.index(answer)] = replace(answer, text=text, others=tuple(others))

    def regenerate(self) -> None:
        """The newest answer is taken back, with the calls it took."""
        asked = self.live.index(self.last_question)
        answer = next((each for each in self.live[asked:] if each.role == "assistant"), None)
        if answer is not None:
            self.take_back(answer)

    def take_back(self, first: Said) -> None:
        """The manager supersedes all from `first` on, but for the block."""
        at = self.live.index(first)
        taken = [each for each in self.live[at:] if each is not self.block]
        self.live = [each for each in self.live if each not in taken]
        self.gone += taken

    def after(self, first: Said) -> list[Said]:
        """The conversation from a message on, itself included."""
        conversation = self.conversation
        return conversation[conversation.index(first) :]

    @property
    def questions(self) -> list[Said]:
        return [each for each in self.conversation if each.role == "user"]

    @property
    def left_in_journal(self) -> list[Said]:
        """Questions that were written down and never answered."""
        return [each for each in self.live if each.role == "user" and each.status == "pending"]

    @property
    def last_question(self) -> Said:
        return self.questions[-1]

    @property
    def open_calls(self) -> tuple[str, ...]:
        """Those of the newest message."""
        newest = self.conversation[-1:]
        return newest[0].calls if newest else ()
