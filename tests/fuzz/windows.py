"""The state machine over windows: whatever was said in a thread, what is sent is valid, in order and within its budget.

Two machines. In `AnyThread` everything happens that a storage allows: calls without results and results without calls,
broken-off answers, pins, superseded tails. In `CallsOfAThread` a thread is used as an application does, call by call;
there the cut is found again by whoever does not have it.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from memexllm import HistoryManager, MemoryStorage
from memexllm.algorithms import BaseAlgorithm, FIFOAlgorithm, TokenWindowAlgorithm
from memexllm.algorithms.notes import WINDOWS, without_notes_after
from memexllm.core.errors import WindowError
from memexllm.core.tokens import TokenCounter
from memexllm.testing.server.message_rules import check_messages
from memexllm.testing.server.tool_rules import check_tool_order
from tests.fuzz import sides
from tests.fuzz.machine import Machine, same
from tests.fuzz.model import Fields, live
from tests.fuzz.shown import head_of, made, shown, text
from tests.fuzz.sides import Side
from tests.fuzz.values import PLAIN, numbered
from tests.notes_in_state import without_notes

THREAD_ID = "t"
BLOCK_ROLES = ("system", "developer")
RESULT_ROLES = ("tool", "function")
SIZES = st.integers(0, 40)


def words(size: int) -> str:
    return " ".join(["word"] * size)


def count_words(text: str) -> int:
    return len(text.split())


COUNTER = TokenCounter(text_counter=count_words)


ALGORITHMS = st.one_of(
    st.tuples(st.just("fifo"), st.integers(1, 12), st.none()),
    st.tuples(st.just("fifo"), st.integers(2, 12), st.sampled_from((1, 0.5, 0.6))),
    st.tuples(st.just("tokens"), st.integers(30, 300), st.sampled_from((0.3, 0.6, 1))),
)


def algorithm_of(kind: str, size: int, keep: Any) -> BaseAlgorithm:
    if kind == "fifo":
        return FIFOAlgorithm(size, keep=keep)
    return TokenWindowAlgorithm(size, keep=keep, token_counter=count_words)


class Windows(Machine):
    """A thread, the algorithm, and the laws of what is sent."""

    kinds = (*sides.BUILT_IN[:2], *sides.BUILT_IN[3:4], *sides.FOUR_METHODS[1:2], *sides.FOUR_METHODS[4:5])

    @initialize(algorithm=ALGORITHMS, block=st.lists(st.sampled_from(BLOCK_ROLES), max_size=2))
    def begin(self, algorithm: tuple[str, int, Any], block: list[str]) -> None:
        self.algorithm = algorithm
        self.sides = sides.sides_of(self.kinds, self.folder, self.runner, None, lambda: algorithm_of(*algorithm))
        self.n_calls = 0
        self.model.append(THREAD_ID, [], create={})
        for side in self.sides:
            side.store("append_messages", THREAD_ID, [], create={})
        for role in block:
            self.say({"role": role, "content": "Be brief."})

    @invariant()
    def everything_agrees(self) -> None:
        """As long as the threads are, only their heads are compared; what was said is in what is sent."""
        self.step += 1
        # What the library keeps in the state (the cut, the pins) depends on how much a storage can leave unread.
        head = {**head_of(THREAD_ID, self.model.threads[THREAD_ID]), "state": {}}
        for side in self.sides:
            same(side, side.store("read_head", THREAD_ID).changed(state={}), head)

    def say(self, *wires: Fields, **fields: Any) -> None:
        drafts = [{**PLAIN, "wire": wire, **fields} for wire in wires]
        batch = numbered(drafts, self.step)

        def actual(side: Side) -> None:
            side.manage("add_messages", THREAD_ID, [made(each) for each in batch])

        self.agree(lambda: self.model.append(THREAD_ID, batch) and None, actual)
        self.step += 1

    def calling(self, n: int, *, reused: bool) -> Fields:
        self.n_calls += 1
        stem = "call" if reused else f"call_{self.n_calls}"
        calls = [
            {"id": f"{stem}_{i}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for i in range(n)
        ]
        return {"role": "assistant", "content": None, "tool_calls": calls}

    @property
    def told(self) -> list[Fields]:
        return live(self.model.threads[THREAD_ID]["messages"])

    @property
    def n_block(self) -> int:
        told = self.told
        return next((i for i, each in enumerate(told) if each["wire"]["role"] not in BLOCK_ROLES), len(told))

    def contexts(self) -> list[Fields] | None:
        """What every side would send; None when they all refuse to."""
        found: list[Any] = []
        for side in self.sides:
            side.begin(self.step)
            try:
                found.append(shown(side.manage("context", THREAD_ID)))
            except WindowError:
                found.append(None)
            state = side.store("read_head", THREAD_ID).state
            self.model.threads[THREAD_ID]["state"] = state
        assert len({text(each) for each in found}) == 1, "the sides send different windows"
        sent: list[Fields] | None = found[0]
        return sent

    def check(self, sent: list[Fields]) -> None:
        wires = [message["wire"] for message in sent]
        block, told = self.told[: self.n_block], self.told[self.n_block :]
        assert wires[: len(block)] == [message["wire"] for message in block], "the block is not first and whole"
        if wires:
            check_messages({"messages": wires}, strict_fields=True, reasoning="ignore")
        check_tool_order(wires)
        window = sent[len(block) :]
        places = {message["seq"]: place for place, message in enumerate(told)}
        # A result that came late goes to its call; everything else is where it was.
        said = [places[message["seq"]] for message in window if message["wire"]["role"] not in RESULT_ROLES]
        assert said == sorted(set(said)), "out of order, or twice"
        self.check_required(window, told)
        self.check_budget(block, window, told)

    def required(self, told: list[Fields]) -> set[int]:
        """Seqs that are sent whatever fits: of a turn that is not over, the user message that opened it."""
        if told and told[-1]["wire"]["role"] == "assistant" and not calls_in(told[-1]):
            return set()
        return set([message["seq"] for message in told if message["wire"]["role"] == "user"][-1:])

    def check_required(self, window: list[Fields], told: list[Fields]) -> None:
        late = told and told[-1]["wire"]["role"] in RESULT_ROLES
        if late and window and window[-1]["wire"]["role"] == "assistant" and not calls_in(window[-1]):
            return  # the results went to their call, and what is sent ends with an answer: the turn is over
        assert self.required(told) <= {message["seq"] for message in window}, "what must be sent is not sent"

    def check_budget(self, block: list[Fields], window: list[Fields], told: list[Fields]) -> None:
        kind, size, _ = self.algorithm
        if kind == "tokens":
            assert 3 + sum(COUNTER.count_message(message["wire"]) for message in (*block, *window)) <= size, (
                "over max_tokens"
            )
            return
        others = {message["seq"] for message in window} - self.kept_whatever_fits(told)
        assert not others or len(window) <= size, "over max_messages"

    def kept_whatever_fits(self, told: list[Fields]) -> set[int]:
        """Seqs of all that `max_messages` may be passed for: required messages, and their whole exchanges."""
        pinned = {message["seq"] for message in told if message["pinned"]}
        ids = {
            call_id
            for message in told
            if message["pinned"]
            for call_id in (*calls_in(message), message["wire"].get("tool_call_id"))
        }
        last = len(told)
        while last > 0 and told[last - 1]["wire"]["role"] in RESULT_ROLES:
            last -= 1
        newest = {message["seq"] for message in told[max(0, last - 1) :]}
        related = {
            message["seq"]
            for message in told
            if set(calls_in(message)) & ids
            or (message["wire"].get("tool_call_id") in ids and message["wire"]["role"] == "tool")
        }
        return self.required(told) | pinned | newest | related


def calls_in(message: Fields) -> list[str]:
    wire = message["wire"]
    ids = [call["id"] for call in wire.get("tool_calls") or ()]
    return [*ids, "function"] if wire.get("function_call") else ids


class CallsOfAThread(Windows):
    """Call by call: the user says something, what is to be sent is read, the answer is stored."""

    open_calls: tuple[str, ...] = ()
    refused = False
    """Whether a call did not fit in the budget."""

    @precondition(lambda self: not self.open_calls)
    @rule(size=SIZES, answer=SIZES, n_calls=st.integers(0, 3), reused=st.booleans())
    def a_question(self, size: int, answer: int, n_calls: int, reused: bool) -> None:
        self.say({"role": "user", "content": words(size)})
        self.call(answer, n_calls, reused)

    @precondition(lambda self: self.open_calls)
    @rule(size=SIZES, backwards=st.booleans(), answer=SIZES, n_calls=st.integers(0, 3), reused=st.booleans())
    def results(self, size: int, backwards: bool, answer: int, n_calls: int, reused: bool) -> None:
        ids = self.open_calls[::-1] if backwards else self.open_calls
        self.say(*({"role": "tool", "tool_call_id": each, "content": words(size)} for each in ids))
        self.call(answer, n_calls, reused)

    def call(self, answer: int, n_calls: int, reused: bool) -> None:
        sent = self.contexts()
        if sent is not None:
            self.check(sent)
            newest = self.told[-len(self.open_calls) or -1 :]
            assert {message["seq"] for message in newest} <= {message["seq"] for message in sent}, (
                "the newest is not sent"
            )
            if not self.refused:
                self.check_the_cut_is_found_again(sent)
        wire = self.calling(n_calls, reused=reused) if n_calls else {"role": "assistant", "content": words(answer)}
        self.open_calls = tuple(calls_in({"wire": wire}))
        # What could not be sent was not answered by a model. Where calls began is then not told by the thread alone.
        self.refused = self.refused or sent is None
        self.say(wire, call=None if sent is None else {"model": "m", "server": "s"})

    def check_the_cut_is_found_again(self, sent: list[Fields]) -> None:
        thread = self.sides[0].store("get_thread", THREAD_ID)
        copied = MemoryStorage()
        copied.save_thread(thread.changed(state=without_notes(thread.state)))
        found = HistoryManager(copied, algorithm_of(*self.algorithm)).context(THREAD_ID)
        assert text(shown(found)) == text(sent), "a manager without the cut finds another window"


class AnyThread(Windows):
    """Everything a storage allows, in any order."""

    @rule(
        role=st.sampled_from(("user", "user", "assistant", "system")),
        size=SIZES,
        pinned=st.sampled_from((False, False, False, True)),
        status=st.sampled_from(("complete", "complete", "incomplete")),
        answered=st.booleans(),
    )
    def somebody_says(self, role: str, size: int, pinned: bool, status: str, answered: bool) -> None:
        call = {"model": "m"} if answered and role == "assistant" else None
        self.say(
            {"role": role, "content": words(size)},
            pinned=pinned,
            status=status if role == "assistant" else "complete",
            call=call,
        )

    @rule(
        n=st.integers(1, 3),
        reused=st.booleans(),
        old=st.booleans(),
        status=st.sampled_from(("complete", "complete", "incomplete")),
        content=st.sampled_from((None, "", "so")),
    )
    def a_call(self, n: int, reused: bool, old: bool, status: str, content: str | None) -> None:
        wire = self.calling(n, reused=reused)
        if old:
            wire = {"role": "assistant", "content": content, "function_call": {"name": "f", "arguments": "{}"}}
        self.say({**wire, "content": content}, status=status, call={"model": "m"})

    @rule(places=st.lists(st.integers(0, 5), min_size=1, max_size=3), size=SIZES, old=st.booleans())
    def some_results(self, places: list[int], size: int, old: bool) -> None:
        """Of calls that wait, of calls that do not, and of none."""
        ids = [call_id for message in self.told for call_id in calls_in(message) if call_id != "function"][-5:] or [
            "none"
        ]
        if old:
            self.say({"role": "function", "name": "f", "content": words(size)})
        else:
            self.say(
                *({"role": "tool", "tool_call_id": ids[place % len(ids)], "content": words(size)} for place in places)
            )

    @rule(place=st.integers(0, 30))
    def a_superseded_tail(self, place: int) -> None:
        """As the library does it: with the tail goes a cut that lies in it."""
        history = self.told[self.n_block :]
        if not history:
            return
        first = history[place % len(history)]["seq"]
        state = without_notes_after(self.model.threads[THREAD_ID]["state"], first)
        self.agree(
            lambda: self.model.append(THREAD_ID, [], supersede_from=first, state=state) and None,
            lambda side: side.store("append_messages", THREAD_ID, [], supersede_from=first, state=state) and None,
        )

    @rule()
    def what_is_sent(self) -> None:
        sent = self.contexts()
        if sent is not None:
            self.check(sent)

    @rule()
    def a_thread_read(self) -> None:
        """Its window is in order but for results, which stand with their calls."""
        for side in self.sides:
            side.begin(self.step)
            try:
                thread = side.manage("get_thread", THREAD_ID)
            except WindowError:
                continue
            finally:
                self.model.threads[THREAD_ID]["state"] = side.store("read_head", THREAD_ID).state
            seqs = [message.seq for message in thread.messages]
            assert len(seqs) == len(set(seqs)), "twice"
            said = [message.seq for message in thread.messages if message.role not in RESULT_ROLES]
            assert said == sorted(said), "out of order"

    @rule()
    def a_lost_cut(self) -> None:
        """Another process, whose writes lost the library's state."""
        state = self.model.threads[THREAD_ID]["state"]
        if WINDOWS not in state:
            return
        self.agree(
            lambda: self.model.patch(THREAD_ID, state={WINDOWS: {}}),
            lambda side: side.store("patch_thread", THREAD_ID, state={WINDOWS: {}}),
        )
