"""Any sequence of edits, regenerations, choices, corrections and pins, against a plain list."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memexllm import FIFOAlgorithm, HistoryManager, MemoryStorage, Message, SQLiteStorage
from memexllm.core.wire import ALTERNATIVES
from memexllm.history.context import PINS
from tests.history.test_managers import FourMethods

if TYPE_CHECKING:
    from collections.abc import Callable

    from memexllm import BaseStorage

STORAGES: dict[str, Callable[[], BaseStorage]] = {
    "memory": MemoryStorage,
    "sqlite": lambda: SQLiteStorage(":memory:"),
    "four methods": FourMethods,
}
STEPS = st.tuples(
    st.sampled_from(
        ["ask", "ask", "answer", "answer", "edit", "correct", "regenerate", "select", "pin", "unpin", "look"]
    ),
    st.integers(0, 100),
)


@dataclass
class Said:
    id: str
    role: str
    content: str
    others: list[str] = field(default_factory=list[str])
    pinned: bool = False


class Model:
    """The conversation as a list, and everything that was ever said and not corrected."""

    def __init__(self, manager: HistoryManager) -> None:
        self.manager = manager
        self.live: list[Said] = []
        self.ever: Counter[str] = Counter()
        self.n_said = 0
        manager.create_thread(thread_id="t")

    def step(self, what: str, number: int) -> None:
        if what in ("ask", "answer", "regenerate", "look"):
            getattr(self, what)()
        elif self.live:
            getattr(self, what)(self.live[-1 - number % min(len(self.live), 7)], number)

    def word(self) -> str:
        self.n_said += 1
        self.ever[f"w{self.n_said}"] += 1
        return f"w{self.n_said}"

    def add(self, role: str, n_others: int) -> None:
        content, others = self.word(), [self.word() for _ in range(n_others)]
        metadata = {ALTERNATIVES: [{"role": role, "content": other} for other in others]} if others else None
        message = Message(content, role, metadata=metadata)
        self.manager.add_messages("t", [message])
        self.live.append(Said(message.id, role, content, others))

    def ask(self) -> None:
        self.add("user", 0)

    def answer(self) -> None:
        self.add("assistant", 2)

    def edit(self, said: Said, number: int) -> None:
        content = self.word()
        edited = self.manager.edit_message("t", said.id, content)
        del self.live[self.live.index(said) :]
        self.live.append(Said(edited.id, said.role, content, [], said.pinned))

    def correct(self, said: Said, number: int) -> None:
        self.ever[said.content] -= 1
        said.content = self.word()
        self.manager.correct_message("t", said.id, said.content)

    def regenerate(self) -> None:
        questions = [index for index, said in enumerate(self.live) if said.role == "user"]
        if questions:
            taken = self.manager.regenerate("t")
            assert [message.id for message in taken] == [said.id for said in self.live[questions[-1] + 1 :]]
            del self.live[questions[-1] + 1 :]

    def select(self, said: Said, number: int) -> None:
        if said.others:
            index = number % len(said.others)
            self.manager.select_alternative("t", said.id, index)
            said.content, said.others[index] = said.others[index], said.content

    def pin(self, said: Said, number: int) -> None:
        self.manager.pin("t", said.id)
        said.pinned = True

    def unpin(self, said: Said, number: int) -> None:
        self.manager.unpin("t", said.id)
        said.pinned = False

    def look(self) -> None:
        self.manager.context("t")

    def check(self) -> None:
        stored = self.manager.get_messages("t")
        told = [(each.id, each.role, each.content, _others(each), each.pinned) for each in stored]
        assert told == [(each.id, each.role, each.content, each.others, each.pinned) for each in self.live]
        log = self.manager.get_messages("t", include_superseded=True)
        kept = Counter(text for message in log for text in (message.content, *_others(message)))
        assert kept == +self.ever
        assert self.manager.get_thread("t").message_count == len(self.live)
        sent = [message.content for message in self.manager.context("t")]
        assert [each.content for each in self.live if each.pinned or each.content in sent] == sent
        newest = [each.content for each in self.live[-1:]]
        assert sent[-1:] == newest
        known = self.manager.get_thread("t").state.get(PINS)
        assert known in ([message.seq for message in stored if message.pinned], None)
        explained = self.manager.explain("t")
        assert len(explained.superseded) == len(log) - len(stored)


def _others(message: Message) -> list[Any]:
    return [other.content for other in message.alternatives]


@pytest.mark.parametrize("storage", STORAGES)
@settings(deadline=None)
@given(steps=st.lists(STEPS, max_size=40))
def test_the_thread_is_what_the_list_is(storage: str, steps: list[tuple[str, int]]) -> None:
    with STORAGES[storage]() as opened:
        model = Model(HistoryManager(opened, FIFOAlgorithm(max_messages=5, keep=2)))
        for what, number in steps:
            model.step(what, number)
        model.check()
