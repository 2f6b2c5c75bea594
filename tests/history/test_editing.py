"""Edits, answers taken back, other choices and pins, on both managers and over any storage."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from memexllm import (
    AsyncHistoryManager,
    FIFOAlgorithm,
    HistoryManager,
    MemoryStorage,
    Message,
    SQLiteStorage,
)
from memexllm.algorithms.base import BaseAlgorithm
from memexllm.core.errors import (
    ConcurrencyError,
    MessageNotFoundError,
    StorageError,
    ThreadNotFoundError,
    ValidationError,
)
from memexllm.core.wire import ALTERNATIVES
from memexllm.history.context import BLOCK, PINS
from tests.history.test_managers import KINDS, AsyncFourMethods, FourMethods, Spoken
from tests.notes_in_state import cut_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from memexllm import Thread


@pytest.fixture(params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Spoken]]:
    """Makes managers over one storage."""
    speaking, _, kind = request.param.partition(" ")
    storages: dict[str, Callable[[], Any]] = {
        "memory": MemoryStorage,
        "sqlite": lambda: SQLiteStorage(tmp_path / "chat.db"),
        "four methods": FourMethods,
        "async": AsyncFourMethods,
    }
    storage = storages[kind]()
    manager_class: Any = HistoryManager if speaking == "sync" else AsyncHistoryManager
    with asyncio.Runner() as runner:
        yield lambda *args, **options: Spoken(manager_class(storage, *args, **options), runner)
        if kind == "sqlite":
            storage.close()


@pytest.fixture
def manager(made: Callable[..., Spoken]) -> Spoken:
    manager = made()
    manager.create_thread(thread_id="t")
    return manager


def says(manager: Any, *contents: str, thread_id: str = "t") -> list[Message]:
    """A conversation, user and assistant in turn."""
    roles = ("user", "assistant")
    found: list[Message] = manager.add_messages(
        thread_id, [Message(content, roles[index % 2]) for index, content in enumerate(contents)]
    )
    return found


def tools(*call_ids: str) -> list[dict[str, Any]]:
    return [{"id": each, "type": "function", "function": {"name": "f", "arguments": "{}"}} for each in call_ids]


def live(manager: Any) -> list[Any]:
    return [message.content for message in manager.get_messages("t")]


def superseded(manager: Any) -> list[Any]:
    return [message.content for message in manager.get_messages("t", include_superseded=True) if message.superseded]


def state_of(manager: Any) -> dict[str, Any]:
    found: dict[str, Any] = manager.get_thread("t").state
    return found


def with_choices(manager: Any, *contents: str) -> Message:
    """An answer with alternatives, stored."""
    others = [{"role": "assistant", "content": content} for content in contents[1:]]
    answer = Message(contents[0], "assistant", metadata={ALTERNATIVES: others, "mine": 1})
    manager.add_messages("t", [answer])
    return answer


class TestEdit:
    def test_an_edited_message_supersedes_itself_and_what_came_after(self, manager: Spoken) -> None:
        messages = says(manager, "one", "1", "two", "2", "three", "3")
        edited = manager.edit_message("t", messages[2].id, "TWO")
        assert live(manager) == ["one", "1", "TWO"]
        assert superseded(manager) == ["two", "2", "three", "3"]
        assert manager.get_messages("t")[-1] == edited
        assert (edited.role, edited.superseded) == ("user", False)
        assert edited.id != messages[2].id

    def test_it_keeps_what_else_was_known_of_it(self, manager: Spoken) -> None:
        said = Message(wire={"role": "user", "content": "a", "name": "Ada", "x": 1}, metadata={"k": 1}, turn_id="7")
        manager.add_messages("t", [said])
        edited = manager.edit_message("t", said.id, [{"type": "text", "text": "b"}])
        assert edited.wire == {**said.wire, "content": [{"type": "text", "text": "b"}]}
        assert (edited.metadata, edited.turn_id) == ({"k": 1}, "7")

    def test_an_edited_answer_keeps_only_what_the_editor_said(self, manager: Spoken) -> None:
        wire = {"role": "assistant", "content": "a", "reasoning_content": "hm", "refusal": "no", "audio": {"id": "x"}}
        others = {ALTERNATIVES: [{"role": "assistant", "content": "c"}]}
        said = Message(wire=wire, call={"model": "m"}, metadata=others, items=[{"type": "message"}])
        manager.add_messages("t", [Message("hi", "user"), said])
        edited = manager.edit_message("t", said.id, "b")
        assert edited.wire == {"role": "assistant", "content": "b"}
        assert (edited.call, edited.items, edited.alternatives) == (None, None, [])
        (former,) = [each for each in manager.get_messages("t", include_superseded=True) if each.superseded]
        assert former.alternatives == others[ALTERNATIVES]

    def test_the_result_of_one_of_several_calls_leaves_the_other_results(self, manager: Spoken) -> None:
        results = [Message(f"r{n}", "tool", tool_call_id=f"c{n}") for n in range(3)]
        call = Message(None, "assistant", tool_calls=tools("c0", "c1", "c2"))
        manager.add_messages("t", [Message("go", "user"), call, *results, Message("done", "assistant")])
        manager.edit_message("t", results[1].id, "R1")
        assert live(manager) == ["go", None, "r0", "r2", "R1"]
        assert len(manager.context("t")) == 5

    def test_it_is_explained(self, manager: Spoken) -> None:
        messages = says(manager, "one", "1")
        manager.edit_message("t", messages[0].id, "ONE")
        explained = manager.explain("t")
        assert [entry.message_id for entry in explained.superseded] == [message.id for message in messages]
        assert {entry.reason for entry in explained.superseded} == {"replaced by an edit or a new answer"}
        assert [entry.preview for entry in explained.included] == ["ONE"]

    def test_it_is_shown_to_an_algorithm_that_looks_at_each_message(self, made: Callable[..., Spoken]) -> None:
        class Counts(BaseAlgorithm):
            def get_message_window(self, messages: list[Message]) -> list[Message]:
                return messages

            def process_thread(self, thread: Thread, new_message: Message) -> None:
                seen: Any = thread.metadata.get("seen", [])
                thread.metadata["seen"] = [*seen, new_message.content]

        manager = made(Counts())
        manager.create_thread(thread_id="t")
        (message,) = says(manager, "one")
        manager.edit_message("t", message.id, "ONE")
        assert manager.get_thread("t").metadata == {"seen": ["one", "ONE"]}

    @pytest.mark.parametrize("n_messages", [1, 49, 50, 51, 120])
    def test_it_is_found_however_far_back_it_lies(self, manager: Spoken, n_messages: int) -> None:
        (message,) = says(manager, "first")
        says(manager, *(str(n) for n in range(n_messages)))
        manager.edit_message("t", message.id, "FIRST")
        assert live(manager) == ["FIRST"]
        assert len(superseded(manager)) == n_messages + 1

    def test_what_cannot_be_edited_is_refused_and_changes_nothing(self, manager: Spoken) -> None:
        messages = says(manager, "one", "1", "two")
        manager.edit_message("t", messages[2].id, "TWO")
        before = manager.get_messages("t", include_superseded=True)
        with pytest.raises(ValidationError, match="superseded"):
            manager.edit_message("t", messages[2].id, "again")
        with pytest.raises(MessageNotFoundError):
            manager.edit_message("t", "nobody", "again")
        with pytest.raises(ThreadNotFoundError):
            manager.edit_message("u", messages[0].id, "again")
        with pytest.raises(ValidationError):
            manager.edit_message("t", messages[0].id, 7)
        assert manager.get_messages("t", include_superseded=True) == before

    def test_no_error_shows_what_was_said(self, manager: Spoken) -> None:
        manager.add_messages("t", [Message("the secret instructions", "system")])
        says(manager, "hi")
        (system, _) = manager.get_messages("t")
        with pytest.raises(ValidationError, match="instructions of thread") as caught:
            manager.edit_message("t", system.id, "other")
        assert "secret" not in str(caught.value)


class TestCorrect:
    def test_a_corrected_message_stays_in_its_place_and_leaves_no_trace(self, manager: Spoken) -> None:
        messages = says(manager, "one", "teh answer", "two", "2")
        corrected = manager.correct_message("t", messages[1].id, "the answer")
        assert live(manager) == ["one", "the answer", "two", "2"]
        assert superseded(manager) == []
        assert corrected.id == messages[1].id
        assert manager.search_messages("teh") == []

    def test_what_stood_for_the_former_words_goes_with_them(self, manager: Spoken) -> None:
        wire = {"role": "assistant", "content": None, "refusal": "no", "audio": {"id": "x"}, "x": 1}
        said = Message(wire=wire, call={"model": "m"}, token_count=9, items=[{"type": "message"}])
        manager.add_messages("t", [Message("hi", "user"), said])
        manager.correct_message("t", said.id, "yes")
        stored = manager.get_messages("t")[-1]
        assert stored.wire == {"role": "assistant", "content": "yes", "x": 1}
        assert (stored.tokens, stored.items, stored.call.model) == (None, None, "m")

    def test_instructions_are_refused_also_when_a_call_named_them(self, manager: Spoken) -> None:
        manager.add_messages("t", [Message("be brief", "system"), *[Message("hi", "user")]])
        system = manager.get_messages("t")[0]
        with pytest.raises(ValidationError, match="instructions"):
            manager.correct_message("t", system.id, "be long")


class TestRegenerate:
    def test_the_newest_answer_is_taken_back_and_returned(self, manager: Spoken) -> None:
        messages = says(manager, "one", "1", "two", "2")
        (taken,) = manager.regenerate("t")
        assert (taken.id, taken.superseded) == (messages[3].id, True)
        assert live(manager) == ["one", "1", "two"]
        assert superseded(manager) == ["2"]

    def test_calls_results_and_answer_go_together(self, manager: Spoken) -> None:
        says(manager, "one", "1")
        call = Message(None, "assistant", tool_calls=tools("c"))
        run = [call, Message("42", "tool", tool_call_id="c"), Message("done", "assistant")]
        manager.add_messages("t", [Message("go", "user"), *run])
        assert [message.id for message in manager.regenerate("t")] == [message.id for message in run]
        assert live(manager) == ["one", "1", "go"]

    def test_what_came_with_the_question_stays(self, manager: Spoken) -> None:
        note = Message("It is late.", "developer")
        manager.add_messages("t", [Message("a", "user"), Message("b", "user"), note, Message("c", "assistant")])
        manager.regenerate("t")
        assert live(manager) == ["a", "b", "It is late."]

    def test_a_turn_that_has_an_id_goes_back_to_its_own_beginning(self, manager: Spoken) -> None:
        says(manager, "one", "1")
        run: list[Message] = [Message("go", "user", turn_id="T")]
        for n in range(40):
            run.append(Message(None, "assistant", tool_calls=tools(f"c{n}"), turn_id="T"))
            run.append(Message("42", "tool", tool_call_id=f"c{n}", turn_id="T"))
            run.append(Message("what it looks like", "user", turn_id="T"))
        manager.add_messages("t", [*run, Message("done", "assistant", turn_id="T")])
        assert len(manager.regenerate("t")) == 121
        assert live(manager) == ["one", "1", "go"]

    def test_without_an_answer_there_is_nothing_to_take_back(self, manager: Spoken) -> None:
        says(manager, "one", "1", "two")
        version = manager.get_thread("t").version
        assert manager.regenerate("t") == []
        assert manager.get_thread("t").version == version
        assert live(manager) == ["one", "1", "two"]

    def test_a_thread_without_a_question_is_refused(self, manager: Spoken) -> None:
        manager.add_messages("t", [Message("be brief", "system"), Message("Welcome!", "assistant")])
        with pytest.raises(ValidationError, match="no user message"):
            manager.regenerate("t")
        with pytest.raises(ThreadNotFoundError):
            manager.regenerate("u")
        assert live(manager) == ["be brief", "Welcome!"]

    @pytest.mark.parametrize("n_calls", [10, 25, 60])
    def test_an_answer_of_any_length_is_taken_back(self, manager: Spoken, n_calls: int) -> None:
        run: list[Message] = [Message("go", "user")]
        for n in range(n_calls):
            run.append(Message(None, "assistant", tool_calls=tools(f"c{n}")))
            run.append(Message("42", "tool", tool_call_id=f"c{n}"))
        manager.add_messages("t", run)
        assert len(manager.regenerate("t")) == 2 * n_calls
        assert live(manager) == ["go"]


class TestSelect:
    def test_the_chosen_one_is_the_answer_and_the_former_takes_its_place(self, manager: Spoken) -> None:
        says(manager, "hi")
        answer = with_choices(manager, "a", "b", "c")
        chosen = manager.select_alternative("t", answer.id, 1)
        stored = manager.get_messages("t")[-1]
        assert stored == chosen
        assert (stored.id, stored.content) == (answer.id, "c")
        assert [other.content for other in stored.alternatives] == ["b", "a"]
        assert stored.metadata["mine"] == 1
        assert superseded(manager) == []

    def test_selecting_again_takes_it_back(self, manager: Spoken) -> None:
        says(manager, "hi")
        answer = with_choices(manager, "a", "b", "c")
        before = manager.get_messages("t")
        for index in (0, 1, 1, 0):
            manager.select_alternative("t", answer.id, index)
        assert manager.get_messages("t") == before

    def test_later_messages_stay(self, manager: Spoken) -> None:
        says(manager, "hi")
        answer = with_choices(manager, "a", "b")
        says(manager, "two", "2")
        manager.select_alternative("t", answer.id, 0)
        assert live(manager) == ["hi", "b", "two", "2"]

    def test_what_was_counted_for_the_former_is_not_taken_for_the_chosen(self, made: Callable[..., Spoken]) -> None:
        manager = made()
        manager.create_thread(thread_id="t")
        others = [{"role": "assistant", "content": "b " * 50}]
        answer = Message("a", "assistant", token_count=1, metadata={ALTERNATIVES: others})
        manager.add_messages("t", [Message("hi", "user"), answer])
        manager.select_alternative("t", answer.id, 0)
        assert manager.get_messages("t")[-1].tokens is None

    def test_calls_of_tools_can_be_chosen_before_they_are_run(self, manager: Spoken) -> None:
        calling = {"role": "assistant", "content": None, "tool_calls": tools("c")}
        answer = Message("no", "assistant", metadata={ALTERNATIVES: [calling]})
        manager.add_messages("t", [Message("hi", "user"), answer])
        manager.select_alternative("t", answer.id, 0)
        manager.add_messages("t", [Message("42", "tool", tool_call_id="c")])
        assert [message.role for message in manager.context("t")] == ["user", "assistant", "tool"]
        with pytest.raises(ValidationError, match="calls tools"):
            manager.select_alternative("t", answer.id, 0)
        assert [message.role for message in manager.context("t")] == ["user", "assistant", "tool"]

    def test_calls_of_tools_are_not_put_before_messages_that_follow(self, manager: Spoken) -> None:
        calling = {"role": "assistant", "content": None, "tool_calls": tools("c")}
        answer = Message("no", "assistant", metadata={ALTERNATIVES: [calling]})
        manager.add_messages("t", [Message("hi", "user"), answer, Message("ok", "user")])
        with pytest.raises(ValidationError, match="calls tools"):
            manager.select_alternative("t", answer.id, 0)
        assert live(manager) == ["hi", "no", "ok"]

    @pytest.mark.parametrize("index", [-1, 2, "0", 1.0, True, None])
    def test_an_index_of_none_is_refused(self, manager: Spoken, index: Any) -> None:
        says(manager, "hi")
        answer = with_choices(manager, "a", "b", "c")
        with pytest.raises(ValidationError, match="2 alternatives"):
            manager.select_alternative("t", answer.id, index)
        assert live(manager) == ["hi", "a"]

    @pytest.mark.parametrize("kept", [None, "jazz", [], [7], [{"role": "user", "content": "x"}], [{"content": "x"}]])
    def test_what_else_a_user_keeps_by_that_name_is_no_choice(self, manager: Spoken, kept: Any) -> None:
        answer = Message("a", "assistant", metadata={ALTERNATIVES: kept})
        manager.add_messages("t", [Message("hi", "user"), answer])
        with pytest.raises(ValidationError):
            manager.select_alternative("t", answer.id, 0)
        assert manager.get_messages("t")[-1] == answer


class TestPin:
    def test_a_pinned_message_is_sent_until_it_is_unpinned(self, made: Callable[..., Spoken]) -> None:
        manager = made(FIFOAlgorithm(max_messages=2))
        manager.create_thread(thread_id="t")
        messages = says(manager, "nuts", "1", "two", "2", "three", "3")
        for _ in range(2):
            assert manager.pin("t", messages[0].id).pinned
            assert [message.content for message in manager.context("t")] == ["nuts", "3"]
        for _ in range(2):
            assert not manager.unpin("t", messages[0].id).pinned
            assert [message.content for message in manager.context("t")] == ["three", "3"]
        assert not state_of(manager).get(PINS)

    def test_pinning_changes_nothing_of_what_was_said(self, manager: Spoken) -> None:
        said = Message("a", "assistant", token_count=3, items=[{"type": "message"}], call={"model": "m"})
        manager.add_messages("t", [Message("hi", "user"), said])
        manager.pin("t", said.id)
        stored = manager.get_messages("t")[-1]
        said.pinned = True
        assert stored == said

    def test_a_pin_of_a_thread_that_was_cut_already_is_found(self, made: Callable[..., Spoken]) -> None:
        manager = made(FIFOAlgorithm(max_messages=3, keep=1))
        manager.create_thread(thread_id="t")
        messages = says(manager, "nuts", "1", "two", "2", "three", "3")
        manager.context("t")
        manager.pin("t", messages[0].id)
        assert manager.context("t")[0].content == "nuts"
        assert state_of(manager)[PINS] == [0]

    def test_superseding_takes_the_pins_with_it_and_an_edit_keeps_its_own(self, made: Callable[..., Spoken]) -> None:
        manager = made(FIFOAlgorithm(max_messages=2))
        manager.create_thread(thread_id="t")
        messages = says(manager, "nuts", "1", "two", "2")
        manager.context("t")
        for message in (messages[0], messages[2], messages[3]):
            manager.pin("t", message.id)
        manager.regenerate("t")
        assert state_of(manager).get(PINS) in ([0, 2], None)
        edited = manager.edit_message("t", messages[0].id, "no nuts")
        assert edited.pinned
        assert state_of(manager).get(PINS) in ([4], None)
        says(manager, "3", "4", "5", "6")
        assert [message.content for message in manager.context("t")] == ["no nuts", "6"]

    def test_a_superseded_message_is_not_pinned(self, manager: Spoken) -> None:
        messages = says(manager, "one", "1")
        manager.regenerate("t")
        with pytest.raises(ValidationError, match="superseded"):
            manager.pin("t", messages[1].id)


class TestTheThreadsState:
    def test_a_cut_behind_the_edit_is_taken_back(self, made: Callable[..., Spoken]) -> None:
        manager = made(FIFOAlgorithm(max_messages=4, keep=2))
        manager.create_thread(thread_id="t")
        messages = says(manager, *"abcdefghij")
        manager.context("t")
        assert cut_in(state_of(manager)) > messages.index(messages[4])
        manager.edit_message("t", messages[2].id, "C")
        assert [message.content for message in manager.context("t")] == ["a", "b", "C"]

    def test_a_cut_before_the_answer_stays(self, made: Callable[..., Spoken]) -> None:
        manager = made(FIFOAlgorithm(max_messages=4, keep=2))
        manager.create_thread(thread_id="t")
        says(manager, *"abcdefghij")
        manager.context("t")
        cut = cut_in(state_of(manager))
        manager.regenerate("t")
        assert cut_in(state_of(manager)) == cut

    def test_instructions_that_came_later_stay_where_they_are(self) -> None:
        storage = MemoryStorage()
        manager = HistoryManager(storage)
        manager.create_thread(thread_id="t")
        messages = says(manager, "one", "1")
        block = {"messages": [{"role": "system", "content": "be brief"}], "seqs": [{"$new": 0}], "hash": "x"}
        batch = [Message("be brief", "system"), Message("two", "user"), Message("2", "assistant")]
        storage.append_messages("t", batch, state={BLOCK: block})
        with pytest.raises(ValidationError, match="instructions"):
            manager.edit_message("t", batch[0].id, "be long")
        manager.edit_message("t", messages[0].id, "ONE")
        assert live(manager) == ["be brief", "ONE"]
        assert [message.content for message in manager.context("t")] == ["be brief", "ONE"]


class Meddled(MemoryStorage):
    """Somebody else does `meddle` before each of the next `times` writes."""

    def __init__(self) -> None:
        super().__init__()
        self.meddle: Callable[[], object] = lambda: None
        self.times = 0

    def append_messages(self, thread_id: str, messages: Sequence[Message], **changes: Any) -> int:
        self._meddle()
        return super().append_messages(thread_id, messages, **changes)

    def replace_message(self, thread_id: str, message_id: str, message: Message, **changes: Any) -> None:
        self._meddle()
        super().replace_message(thread_id, message_id, message, **changes)

    def _meddle(self) -> None:
        if self.times:
            self.times -= 1
            times, self.times = self.times, 0
            self.meddle()
            self.times = times


class TestWhenSomebodyWritesInBetween:
    @pytest.fixture
    def storage(self) -> Meddled:
        return Meddled()

    @pytest.fixture
    def manager(self, storage: Meddled) -> HistoryManager:
        manager = HistoryManager(storage)
        manager.create_thread(thread_id="t")
        storage.meddle = lambda: says(manager, "more", "MORE")
        return manager

    def test_an_edit_supersedes_what_was_said_meanwhile_as_well(
        self, manager: HistoryManager, storage: Meddled
    ) -> None:
        messages = says(manager, "one", "1")
        storage.times = 2
        manager.edit_message("t", messages[0].id, "ONE")
        assert live(manager) == ["ONE"]
        assert superseded(manager) == ["one", "1", "more", "MORE", "more", "MORE"]

    def test_the_answer_that_is_newest_by_then_is_taken_back(self, manager: HistoryManager, storage: Meddled) -> None:
        says(manager, "one", "1")
        storage.times = 1
        assert [message.content for message in manager.regenerate("t")] == ["MORE"]
        assert live(manager) == ["one", "1", "more"]

    def test_a_superseded_message_is_never_brought_back(self, manager: HistoryManager, storage: Meddled) -> None:
        says(manager, "hi")
        answer = with_choices(manager, "a", "b")
        storage.meddle = lambda: manager.regenerate("t")
        changes: list[Callable[[], object]] = [
            lambda: manager.select_alternative("t", answer.id, 0),
            lambda: manager.pin("t", answer.id),
            lambda: manager.correct_message("t", answer.id, "c"),
        ]
        for change in changes:
            storage.times = 1
            with pytest.raises(ValidationError, match="superseded"):
                change()
            assert live(manager) == ["hi"]

    def test_a_thread_that_is_never_left_alone_is_an_error(self, manager: HistoryManager, storage: Meddled) -> None:
        messages = says(manager, "one", "1")
        storage.times = 1000
        with pytest.raises(ConcurrencyError):
            manager.edit_message("t", messages[0].id, "ONE")
        assert "ONE" not in live(manager)
        assert superseded(manager) == []

    def test_pins_and_choices_made_at_once_are_all_there(self, tmp_path: Path) -> None:
        with SQLiteStorage(tmp_path / "chat.db") as storage:
            manager = HistoryManager(storage, FIFOAlgorithm(max_messages=1))
            manager.create_thread(thread_id="t")
            answers = [with_choices(manager, f"a{n}", f"b{n}") for n in range(6)]
            manager.context("t")
            changes = [partial(manager.pin, "t", each.id) for each in answers]
            changes += [partial(manager.select_alternative, "t", each.id, 0) for each in answers]
            threads = [threading.Thread(target=change) for change in changes]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            stored = manager.get_messages("t")
            assert [message.content for message in stored] == [f"b{n}" for n in range(6)]
            assert all(message.pinned for message in stored)
            assert state_of(manager)[PINS] == [message.seq for message in stored]

    def test_a_write_that_fails_has_changed_nothing(self, manager: HistoryManager, storage: Meddled) -> None:
        def fail() -> None:
            raise OSError("no space left on device")

        messages = says(manager, "one", "1")
        before = manager.get_messages("t", include_superseded=True)
        storage.meddle = fail
        for change in (
            lambda: manager.edit_message("t", messages[0].id, "ONE"),
            lambda: manager.regenerate("t"),
            lambda: manager.pin("t", messages[0].id),
        ):
            storage.times = 1
            with pytest.raises(StorageError):
                change()
        assert manager.get_messages("t", include_superseded=True) == before
