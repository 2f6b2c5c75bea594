"""What every machine does: the same call on every side and on the model, then everything is compared."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant

from memexllm.core.errors import (
    MemexLLMError,
)
from memexllm.core.models import Thread
from tests.fuzz import sides, values
from tests.fuzz.model import NOW, Fields, Model, Refused
from tests.fuzz.shown import head_of, shown, spoil, text
from tests.fuzz.sides import Side

MAX_THREADS = 7
PLACES = st.integers(0, 30)
SEQS = st.integers(-1, 12) | st.sampled_from((-(2**70), 2**31, 2**40, 2**70))
LIMITS = st.integers(1, 6) | st.just(10_000)


class Machine(RuleBasedStateMachine):
    """What is common to all machines: the sides, the model, and that they agree after every step."""

    kinds: ClassVar[tuple[sides.Kind, ...]] = sides.BUILT_IN

    n_operations = 0
    """Operations of all machines together, for the report of a long run."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="fuzz-")
        self.runner = asyncio.Runner()
        self.step = 0
        self.sides: list[Side] = []
        self.model = Model()
        self._times: dict[tuple[str, int], tuple[int, datetime, datetime]] = {}
        self._begun = datetime.now(UTC)

    @property
    def folder(self) -> Path:
        return Path(self._folder.name)

    def begin_with(self, max_messages: int | None) -> None:
        self.model = Model(max_messages)
        self.sides = sides.sides_of(self.kinds, self.folder, self.runner, max_messages)

    def teardown(self) -> None:
        for side in self.sides:
            side.manage("close")
        self.runner.close()
        self._folder.cleanup()

    def agree(self, expected: Callable[[], Any], actual: Callable[[Side], Any]) -> Any:
        """What the model says, after every side has said the same; what the sides returned is spoiled."""
        Machine.n_operations += 1
        try:
            wanted = expected()
            kinds: tuple[type[Exception], ...] = ()
        except Refused as refused:
            wanted, kinds = None, refused.kinds
        for side in self.sides:
            side.begin(self.step)
            try:
                found = actual(side)
            except MemexLLMError as error:
                if type(error) not in kinds:
                    raise AssertionError(f"{side} raised this; expected {kinds or 'nothing'}") from error
                continue
            assert not kinds, f"{side} returned {shown(found)!r}; expected {kinds}"
            same(side, found, wanted)
            spoil(found)
        return wanted

    def thread_id(self, place: int) -> str:
        ids = list(dict.fromkeys((*values.THREAD_IDS, *self.model.threads)))
        return ids[place % len(ids)]

    def message_id(self, thread_id: str, place: int) -> str:
        messages = self.model.threads.get(thread_id, {}).get("messages", ())
        return messages[place % len(messages)]["id"] if messages else "unknown"

    @invariant()
    def everything_agrees(self) -> None:
        self.step += 1
        heads = [head_of(thread_id, thread) for thread_id, thread in self.model.threads.items()]
        ended = datetime.now(UTC)
        for side in self.sides:
            same(side, side.manage("list_threads", limit=1000), heads)
            for head in heads:
                thread_id = head["id"]
                found = side.store("read_head", thread_id)
                same(side, found, head)
                assert found.partial
                assert found.messages == []
                self._check_times(side, found, self.model.threads[thread_id], ended)
                stored = side.store("read_messages", thread_id, include_superseded=True)
                same(side, stored, self.model.threads[thread_id]["messages"])
        self._begun = datetime.now(UTC)

    def _check_times(self, side: Side, head: Thread, thread: Fields, ended: datetime) -> None:
        """A thread keeps its time of making, and that of its last write but for changes of state alone."""
        key = (side.name, thread["made"])
        write, created_at, updated_at = self._times.get(key, (0, None, None))
        if created_at is None:
            assert within(head.created_at, thread["created_at"], self._begun, ended), f"{side}: created_at"
        else:
            assert head.created_at == created_at, f"{side}: created_at changed"
        if write != thread["write"]:
            assert within(head.updated_at, thread["updated_at"], self._begun, ended), f"{side}: updated_at"
        else:
            assert head.updated_at == updated_at, f"{side}: updated_at changed"
        self._times[key] = (thread["write"], head.created_at, head.updated_at)


def same(side: Side, found: Any, wanted: Any) -> None:
    found_text, wanted_text = text(shown(found)), text(wanted)
    assert found_text == wanted_text, f"{side}: {difference(found_text, wanted_text)}"


def difference(found: str, wanted: str) -> str:
    """The two from a little before they part."""
    pairs = enumerate(zip(found, wanted, strict=False))
    start = max(0, next((place for place, (one, other) in pairs if one != other), 0) - 60)
    return f"\n found …{found[start : start + 300]}\nwanted …{wanted[start : start + 300]}"


def within(moment: datetime, wanted: Any, begun: datetime, ended: datetime) -> bool:
    return begun <= moment <= ended if wanted == NOW else bool(moment == wanted)


def refused(*kinds: type[Exception]) -> Callable[[], None]:
    def expected() -> None:
        raise Refused(*kinds)

    return expected
