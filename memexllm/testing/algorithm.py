"""The laws of an algorithm, as tests: subclass `AlgorithmConformance` and give it an algorithm.

    class TestMine(AlgorithmConformance):
        @pytest.fixture
        def algorithm(self):
            return MyAlgorithm(max_messages=10)

The laws are tried on random conversations, the same ones on every run. What is *sent* is what the library makes of the
algorithm's choice: what must be sent is added, and what the API would refuse is repaired.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import pytest

from memexllm.algorithms import BaseAlgorithm, ContextView
from memexllm.algorithms._noted import NotedAlgorithm
from memexllm.core.errors import WindowError
from memexllm.core.exchanges import exchanges, repair
from memexllm.core.flow import run
from memexllm.core.models import Message
from memexllm.core.wire import MessageRow, copy_row
from memexllm.history.context import choose
from memexllm.testing._conversations import Writer, messages_of

_RESULT_ROLES = ("tool", "function")
_MODEL = "gpt-4o"


@dataclass(frozen=True)
class Scene:
    """A thread before one call of the model: what is stored of it, and what the caller passes in."""

    stored: list[Message]
    incoming: list[Message]

    def sent(self, algorithm: BaseAlgorithm) -> list[MessageRow]:
        """What the library sends, the block apart."""
        incoming = rows_of(self.incoming)
        window = run(choose(algorithm, ContextView((), incoming=incoming), rows_of(self.stored)))
        return repair([*window.rows, *incoming]).rows

    @property
    def required_ids(self) -> set[str]:
        """What is sent whatever fits: the incoming, the calls they answer, the turn's user message, what is pinned."""
        required = {message.id for message in (*self.incoming, *_exchanges_with_a_pin(self.stored))}
        if self.incoming and self.incoming[0].role in _RESULT_ROLES:
            required.add(self.stored[-1].id)
        if all(message.role != "user" for message in self.incoming):
            required.update([message.id for message in self.stored if message.role == "user"][-1:])
        return required


class AlgorithmConformance:
    """Inherit and give `algorithm`: a fixture that returns the algorithm to try, on `n_conversations` of each kind.

    `takes_the_newest` says that the window is always the newest messages; only then that law is tried.
    """

    takes_the_newest = False
    n_conversations = 20

    @pytest.fixture
    def algorithm(self) -> BaseAlgorithm:
        raise NotImplementedError(
            f"{type(self).__name__} needs a fixture `algorithm` that returns the algorithm to try"
        )

    def test_nothing_gives_nothing(self, algorithm: BaseAlgorithm) -> None:
        assert algorithm.get_message_window([]) == []

    def test_a_window_is_a_new_list_of_the_messages_in_their_order(self, algorithm: BaseAlgorithm) -> None:
        for messages in self._threads():
            window = algorithm.get_message_window(messages)
            chosen = ids(window)
            assert window is not messages
            assert chosen == [message_id for message_id in ids(messages) if message_id in set(chosen)]

    def test_a_window_holds_at_least_the_newest_exchange(self, algorithm: BaseAlgorithm) -> None:
        for messages in self._threads():
            newest = ids(_exchange_messages(messages)[-1])
            assert ids(algorithm.get_message_window(messages))[-len(newest) :] == newest

    def test_a_window_is_the_same_for_messages_not_stored_yet(self, algorithm: BaseAlgorithm) -> None:
        for messages in self._threads():
            fresh = [message.model_copy(update={"seq": None}) for message in messages]
            assert ids(algorithm.get_message_window(fresh)) == ids(algorithm.get_message_window(messages))

    def test_what_goes_in_stays_as_it_is(self, algorithm: BaseAlgorithm) -> None:
        for scene in self._scenes():
            messages = [*scene.stored, *scene.incoming]
            before = [copy_row(row) for row in rows_of(messages)]
            given = list(messages)
            algorithm.get_message_window(given)
            scene.sent(algorithm)
            assert rows_of(messages) == before
            assert [id(message) for message in given] == [id(message) for message in messages]

    def test_the_same_thread_gives_the_same_window(self, algorithm: BaseAlgorithm) -> None:
        first = [_sent_ids(scene, algorithm) for scene in self._scenes()]
        again = [_sent_ids(scene, algorithm) for scene in reversed(list(self._scenes()))]
        assert first == again[::-1]

    def test_what_is_sent_keeps_the_order_of_the_thread(self, algorithm: BaseAlgorithm) -> None:
        for scene in self._scenes():
            sent = _sent_ids(scene, algorithm)
            assert sent == [each for each in ids([*scene.stored, *scene.incoming]) if each in set(sent)]

    def test_no_call_is_sent_without_its_results_and_no_result_without_its_call(self, algorithm: BaseAlgorithm) -> None:
        for scene in self._scenes():
            assert _orphans(scene.sent(algorithm)) == []

    def test_what_the_caller_passed_is_sent_whole(self, algorithm: BaseAlgorithm) -> None:
        for scene in self._scenes():
            passed = [(message.id, message.wire) for message in scene.incoming]
            assert [(row["id"], row["wire"]) for row in scene.sent(algorithm)][-len(passed) :] == passed

    def test_what_must_be_sent_is_sent(self, algorithm: BaseAlgorithm) -> None:
        for scene in self._scenes():
            assert scene.required_ids - set(_sent_ids(scene, algorithm)) == set()

    def test_the_budget_holds(self, algorithm: BaseAlgorithm) -> None:
        """`max_messages` is passed only by what must be sent (and, in a bare window, by the newest exchange)."""
        if algorithm.max_messages is None:
            pytest.skip("max_messages is not set")
        # A plan of one's own counts what must be sent; a bare window is chosen without knowing it.
        plans = type(algorithm).plan is not BaseAlgorithm.plan
        for scene in self._scenes():
            messages = [*scene.stored, *scene.incoming]
            newest = _exchange_messages(messages)[-1]
            assert len(algorithm.get_message_window(messages)) <= max(algorithm.max_messages, len(newest))
            sent = _sent_ids(scene, algorithm)
            others = set(sent) - scene.required_ids
            assert not others or len(sent if plans else others) <= algorithm.max_messages

    def test_the_budget_of_tokens_holds(self, algorithm: BaseAlgorithm) -> None:
        """Counted with the algorithm's own counter: instructions, summary, tools and what is left for the answer."""
        budget = algorithm.budget(_MODEL)
        if budget is None:
            pytest.skip("the algorithm has no budget of tokens")
        counter = algorithm.counter(_MODEL)
        block = rows_of([Message("Be brief. " * 3, "system", id="block")])
        tools = [{"type": "function", "function": {"name": "look_up", "description": "Looks it up."}}]
        n_sent = 0
        for scene in self._scenes():
            view = ContextView((), incoming=rows_of(scene.incoming), block=block, model=_MODEL, tools=tools)
            reserved = getattr(algorithm, "reserve_tokens", 0)
            try:
                window = run(choose(algorithm, view, rows_of(scene.stored)))
            except WindowError:
                required = [message for message in scene.stored if message.id in scene.required_ids]
                wires = [row["wire"] for row in (*block, *rows_of(required), *view.incoming)]
                assert counter.count_request(wires, algorithm.counted_tools(view)) + reserved > budget
                continue
            wires = [row["wire"] for row in (*block, *window.head, *window.rows, *view.incoming)]
            needed = counter.count_request(wires, algorithm.counted_tools(view))
            assert needed + reserved <= budget
            assert window.tokens in (None, needed)
            n_sent += 1
        assert n_sent, "the budget is too small for every conversation; try the algorithm with a larger one"

    def test_a_window_is_the_newest_messages_and_what_must_be_sent(self, algorithm: BaseAlgorithm) -> None:
        if not self.takes_the_newest:
            pytest.skip("takes_the_newest is not set")
        for scene in self._scenes():
            others = [message for message in scene.stored if message.id not in scene.required_ids]
            sent = set(_sent_ids(scene, algorithm))
            chosen = [message for message in others if message.id in sent]
            # A window that rests keeps the user message of the turn in which it moved until it moves again.
            if chosen and chosen[0].role == "user" and isinstance(algorithm, NotedAlgorithm):
                newest = others[len(others) - len(chosen) + 1 :]
                chosen = chosen if ids(chosen[1:]) != ids(newest) else newest
            assert ids(chosen) == ids(others[len(others) - len(chosen) :])

    def _threads(self) -> Iterator[list[Message]]:
        for seed in range(self.n_conversations):
            random = Random(seed)
            yield messages_of(Writer(random).conversation(random.randint(1, 12)), random)

    def _scenes(self) -> Iterator[Scene]:
        """Every thread as it was before four of its calls."""
        for seed, messages in enumerate(self._threads()):
            answers = [index for index, message in enumerate(messages) if message.call is not None]
            starts = dict(zip(answers, [0, *(index + 1 for index in answers)], strict=False))
            for index in Random(seed).sample(answers, min(4, len(answers))):
                incoming = [message.model_copy(update={"seq": None}) for message in messages[starts[index] : index]]
                yield Scene(messages[: starts[index]], incoming)


def rows_of(messages: Sequence[Message]) -> list[MessageRow]:
    return [message.row() for message in messages]


def ids(messages: Sequence[Message]) -> list[str]:
    return [message.id for message in messages]


def _sent_ids(scene: Scene, algorithm: BaseAlgorithm) -> list[str]:
    return [row["id"] for row in scene.sent(algorithm)]


def _exchange_messages(messages: Sequence[Message]) -> list[list[Message]]:
    by_id = {message.id: message for message in messages}
    return [[by_id[row["id"]] for row in exchange.rows] for exchange in exchanges(rows_of(messages))]


def _exchanges_with_a_pin(messages: Sequence[Message]) -> list[Message]:
    return [
        message
        for exchange in _exchange_messages(messages)
        if any(each.pinned for each in exchange)
        for message in exchange
    ]


def _orphans(rows: Sequence[MessageRow]) -> list[str]:
    """Ids of results that follow no call of theirs, and of calls that lack a result."""
    found: list[str] = []
    caller = ""
    waiting: list[str] = []
    for row in rows:
        wire = row["wire"]
        if wire["role"] == "tool":
            if wire["tool_call_id"] in waiting:
                waiting.remove(wire["tool_call_id"])
            else:
                found.append(row["id"])
            continue
        found.extend([caller] if waiting else [])
        caller = row["id"]
        waiting = [call["id"] for call in wire.get("tool_calls") or ()]
    return found + ([caller] if waiting else [])
