"""Everything a storage of ours does, beside what its manager does."""

from __future__ import annotations

import copy
from datetime import datetime
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from memexllm.core.errors import ConcurrencyError, ThreadNotFoundError, ValidationError
from memexllm.core.models import Message, Thread
from tests.fuzz import sides, values
from tests.fuzz.machine import LIMITS, MAX_THREADS, PLACES, SEQS, refused
from tests.fuzz.manager_machine import ManagerMachine
from tests.fuzz.model import NOW, Fields
from tests.fuzz.shown import head_of, made, row_of, spoil
from tests.fuzz.sides import Side, time_of


class StorageMachine(ManagerMachine):
    """Everything a manager and a storage of ours do, `max_messages` and files that are closed and opened included."""

    kinds = sides.BUILT_IN

    @initialize(max_messages=st.sampled_from((None, None, 1, 2, 3, 6)))
    def begin(self, max_messages: int | None) -> None:
        self.begin_with(max_messages)

    @rule(
        place=PLACES,
        drafts=values.BATCHES,
        keywords=st.fixed_dictionaries(
            {},
            optional={
                "create": st.fixed_dictionaries(
                    {}, optional={"user_id": values.USERS, "title": values.TITLES, "metadata": values.METADATAS}
                ),
                "supersede_from": SEQS,
                "supersede": st.lists(SEQS, max_size=3),
                "state": values.STATES,
                "counts": st.dictionaries(SEQS, st.tuples(st.integers(0, 99), st.just("e")), max_size=3),
                "expected_version": st.integers(0, 9),
            },
        ),
        right=st.booleans(),
        named=st.booleans(),
    )
    def append(self, place: int, drafts: list[Fields], keywords: Fields, right: bool, named: bool) -> None:
        thread_id = self.thread_id(place)
        batch = values.numbered(drafts, self.step)
        if "expected_version" in keywords and right:
            keywords["expected_version"] = self.model.threads.get(thread_id, {"version": 0})["version"]
        if "state" in keywords and named:
            keywords["state"] = {**keywords["state"], "new": [{"$new": len(batch) - 1}, {"deep": {"$new": 0}}]}

        def actual(side: Side) -> Any:
            messages, given = [made(each) for each in batch], copy.deepcopy(keywords)
            version = side.store("append_messages", thread_id, messages, **given)
            spoil([messages, given])
            return version

        self.agree(lambda: self.model.append(thread_id, batch, **keywords), actual)

    @rule(place=PLACES, message_place=PLACES, known=st.booleans(), draft=values.DRAFTS)
    def replace_message(self, place: int, message_place: int, known: bool, draft: Fields) -> None:
        thread_id = self.thread_id(place)
        message_id = self.message_id(thread_id, message_place) if known else "\x00 unknown"
        (message,) = values.numbered([{**draft, "id": message_id}], self.step)

        def actual(side: Side) -> None:
            given = made(message)
            side.store("replace_message", thread_id, message_id, given)
            spoil(given)

        self.agree(lambda: self.model.replace(thread_id, message_id, message), actual)

    @rule(
        place=PLACES,
        fields=st.fixed_dictionaries(
            {},
            optional={
                "title": values.TITLES,
                "metadata": values.METADATAS,
                "user_id": values.USERS,
                "state": values.STATES,
            },
        ),
    )
    def patch_thread(self, place: int, fields: Fields) -> None:
        thread_id = self.thread_id(place)

        def actual(side: Side) -> None:
            given = copy.deepcopy(fields)
            side.store("patch_thread", thread_id, **given)
            spoil(given)

        self.agree(lambda: self.model.patch(thread_id, **fields), actual)

    @precondition(lambda self: len(self.model.threads) < MAX_THREADS)
    @rule(
        place=PLACES,
        drafts=values.BATCHES,
        user_id=values.USERS,
        title=values.TITLES,
        metadata=values.METADATAS,
        state=values.STATES,
        version=st.integers(0, 9),
        moment=values.MOMENTS,
    )
    def save_a_new_thread(
        self, place: int, drafts: list[Fields], version: int, moment: datetime, **others: Any
    ) -> None:
        thread_id = self.thread_id(place)
        batch = values.numbered(drafts, self.step)
        fields = {**others, "version": version, "created_at": moment, "updated_at": time_of(self.step)}

        def actual(side: Side) -> None:
            thread = Thread(thread_id, messages=[made(each) for each in batch], **copy.deepcopy(fields))
            side.store("save_thread", thread)
            spoil(thread)

        self.agree(lambda: self.model.save(thread_id, fields, batch), actual)

    @rule(place=PLACES, dropped=st.lists(PLACES, max_size=3), title=values.TITLES, drafts=values.BATCHES)
    def save_a_changed_thread(self, place: int, dropped: list[int], title: str | None, drafts: list[Fields]) -> None:
        thread_id = self.thread_id(place)
        if thread_id not in self.model.threads:
            return
        batch = [{**message, "seq": None} for message in values.numbered(drafts, self.step)]
        moment = time_of(self.step)

        def expected() -> None:
            thread = self.model.thread(thread_id)
            kept = [each for index, each in enumerate(thread["messages"]) if index not in dropped]
            self.model.save(thread_id, {**thread, "title": title, "updated_at": moment}, [*kept, *batch])

        def actual(side: Side) -> None:
            thread = side.store("get_thread", thread_id)
            assert not thread.partial
            kept = [each for index, each in enumerate(thread.messages) if index not in dropped]
            thread.title, thread.updated_at = title, moment
            thread.messages = [*kept, *(made(each) for each in batch)]
            side.store("save_thread", thread)
            spoil(thread)

        before = self.model.threads[thread_id]
        self.agree(expected, actual)
        if before["created_at"] == NOW:
            # The saved thread is the read one: it was made when that was.
            for side in self.sides:
                self._times[side.name, self.model.threads[thread_id]["made"]] = (
                    0,
                    self._times[side.name, before["made"]][1],
                    moment,
                )

    @rule(place=PLACES, limit=LIMITS, way=st.integers(0, 2))
    def save_a_partial_thread(self, place: int, limit: int, way: int) -> None:
        thread_id = self.thread_id(place)
        if thread_id not in self.model.threads:
            return

        def actual(side: Side) -> Any:
            if way == 0:
                return side.store("save_thread", side.store("get_thread", thread_id, message_limit=limit))
            if way == 1:
                return side.store("save_thread", side.store("read_head", thread_id))
            return side.store("save_thread", side.store("list_threads")[0])

        self.agree(refused(ValidationError), actual)

    @rule(place=PLACES)
    def delete_from_storage(self, place: int) -> None:
        thread_id = self.thread_id(place)
        self.agree(lambda: self.model.delete(thread_id), lambda side: side.store("delete_thread", thread_id))

    @rule(
        place=PLACES,
        bounds=st.fixed_dictionaries(
            {}, optional={"limit": LIMITS, "before": SEQS, "after": SEQS, "include_superseded": st.booleans()}
        ),
        wire=st.booleans(),
    )
    def read_messages(self, place: int, bounds: Fields, wire: bool) -> None:
        thread_id = self.thread_id(place)

        def expected() -> list[Fields]:
            found = self.model.messages(thread_id, **bounds)
            return [row_of(message) for message in found] if wire else found

        self.agree(expected, lambda side: side.store("read_messages", thread_id, wire=wire, **bounds))

    @rule(place=PLACES, limit=st.none() | LIMITS)
    def get_from_storage(self, place: int, limit: int | None) -> None:
        thread_id = self.thread_id(place)

        def expected() -> Any:
            if thread_id not in self.model.threads:
                return None
            found = self.model.messages(thread_id, limit=limit, include_superseded=limit is None)
            return [head_of(thread_id, self.model.threads[thread_id]), found, limit is not None]

        def actual(side: Side) -> Any:
            thread = side.store("get_thread", thread_id, message_limit=limit)
            return thread and [thread, thread.messages, thread.partial]

        self.agree(expected, actual)

    @rule(limit=LIMITS, offset=st.integers(0, 8))
    def list_from_storage(self, limit: int, offset: int) -> None:
        def expected() -> list[Fields]:
            return [head_of(each, self.model.threads[each]) for each in self.model.listed(limit, offset)]

        self.agree(expected, lambda side: side.store("list_threads", limit, offset))

    @rule(again=st.booleans())
    def close_and_open(self, again: bool) -> None:
        """A file is closed and opened anew, or opened a second time beside the one that is open."""
        for side in self.sides:
            path = getattr(side.storage, "path", ":memory:")
            if path == ":memory:":
                continue
            if again:
                side.storage.close()
            other = type(side.storage)(path, max_messages=self.model.max_messages)
            self._opened.append(side.storage)
            side.storage = other
            side.manager = side.another_manager()

    @property
    def _opened(self) -> list[Any]:
        return self.__dict__.setdefault("_opened_storages", [])  # type: ignore[no-any-return]  # a list, made here

    def teardown(self) -> None:
        for storage in self._opened:
            storage.close()
        super().teardown()

    @rule(place=PLACES, kind=st.sampled_from(sorted(values.NOT_JSON)), way=st.integers(0, 6))
    def what_is_no_json_for_a_storage(self, place: int, kind: str, way: int) -> None:
        thread_id = self.thread_id(place)
        value = values.NOT_JSON[kind]

        def actual(side: Side) -> Any:
            good = Message("good", "user")
            if way == 0:
                bad = Message(wire={"role": "user", "content": "hi", "x": value})
                return side.store("append_messages", thread_id, [good, bad], create={"title": "t"}, supersede_from=0)
            if way == 1:
                return side.store("append_messages", thread_id, [good], create={}, state={"x": value}, supersede_from=0)
            if way == 2:
                return side.store("patch_thread", thread_id, title="new", state={"x": value})
            if way == 3:
                return side.store("patch_thread", thread_id, title="new", metadata={"x": value})
            if way == 4:
                return side.store("save_thread", Thread(thread_id, metadata={"x": value}, messages=[good]))
            if way == 5:
                return side.store("save_thread", Thread(thread_id, state={"x": value}, messages=[good]))
            return side.store("append_messages", "new", [good], create={"metadata": {"x": value}})

        self.agree(refused(ValidationError, ThreadNotFoundError), actual)

    @rule(place=PLACES, version=st.integers(1, 5))
    def a_wrong_version(self, place: int, version: int) -> None:
        thread_id = self.thread_id(place)
        wrong = self.model.threads.get(thread_id, {"version": 0})["version"] + version

        def actual(side: Side) -> Any:
            return side.store(
                "append_messages",
                thread_id,
                [Message("x", "user")],
                expected_version=wrong,
                create={},
                supersede_from=0,
                state={"x": 1},
            )

        self.agree(refused(ConcurrencyError), actual)
