"""Everything a manager does, over our storages and over storages of four methods, synchronous and asynchronous."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from memexllm.core.errors import ConfigurationError, ThreadNotFoundError, ValidationError
from memexllm.core.models import Message
from memexllm.testing.server.tool_rules import check_tool_order
from tests.fuzz import sides, values
from tests.fuzz.machine import LIMITS, MAX_THREADS, PLACES, Machine, refused, same
from tests.fuzz.model import Fields, Refused, live
from tests.fuzz.shown import head_of, made, shown, spoil, text
from tests.fuzz.sides import Side, id_of, time_of

_BESIDE_CONTENT = ("name", "tool_calls", "tool_call_id", "function_call")


def _sent(message: Fields) -> Fields:
    """Of a message what a request needs; its metadata and call are read by `get_messages`."""
    return {key: message[key] for key in ("id", "seq", "wire")}


def holds(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(key in found and holds(found[key], wanted[key]) for key in wanted)
    return text(found) == text(wanted)


class ManagerMachine(Machine):
    """Everything a manager does."""

    kinds = sides.FOUR_METHODS

    @initialize()
    def begin(self) -> None:
        self.begin_with(None)

    @precondition(lambda self: len(self.model.threads) < MAX_THREADS)
    @rule(place=st.none() | PLACES, metadata=st.none() | values.METADATAS, user_id=values.USERS, title=values.TITLES)
    def create_thread(self, place: int | None, metadata: Any, user_id: str | None, title: str | None) -> None:
        thread_id = None if place is None else self.thread_id(place)
        made_id = id_of(self.step, 0) if thread_id is None else thread_id
        fields = {"metadata": metadata, "user_id": user_id, "title": title, "created_at": time_of(self.step)}

        def expected() -> Fields:
            if made_id in self.model.threads:
                raise Refused(ValidationError)
            self.model.append(made_id, [], create=fields)
            return head_of(made_id, self.model.threads[made_id])

        def actual(side: Side) -> Any:
            given = copy.deepcopy(metadata)
            thread = side.manage("create_thread", given, thread_id=thread_id, user_id=user_id, title=title)
            spoil(given)
            return thread

        self.agree(expected, actual)

    @rule(place=PLACES, draft=values.DRAFTS)
    def add_message(self, place: int, draft: Fields) -> None:
        thread_id = self.thread_id(place)
        said = draft["wire"]
        role, content = said["role"], said.get("content")
        given = {name: said[name] for name in _BESIDE_CONTENT if said.get(name)}
        wire: Fields = {"role": role, "content": content, **given}
        message = {**values.PLAIN, "id": id_of(self.step, 0), "created_at": time_of(self.step), "wire": wire}
        message["metadata"] = draft["metadata"]

        def expected() -> Fields:
            self.model.append(thread_id, [message])
            return message

        def actual(side: Side) -> Any:
            shared = copy.deepcopy([content, draft["metadata"], given])
            message = side.manage("add_message", thread_id, shared[0], role, shared[1], **shared[2])
            spoil(shared)
            return message

        self.agree(expected, actual)

    @rule(place=PLACES, drafts=values.BATCHES)
    def add_messages(self, place: int, drafts: list[Fields]) -> None:
        thread_id = self.thread_id(place)
        batch = values.numbered(drafts, self.step)

        def expected() -> list[Fields]:
            self.model.append(thread_id, batch)
            return batch

        self.agree(expected, lambda side: side.manage("add_messages", thread_id, (made(each) for each in batch)))

    @rule(places=st.lists(PLACES, min_size=2, max_size=4), draft=values.DRAFTS)
    def add_to_several_threads_at_once(self, places: list[int], draft: Fields) -> None:
        ids = list(dict.fromkeys(each for place in places if (each := self.thread_id(place)) in self.model.threads))
        batches = {thread_id: values.numbered([draft, draft], self.step) for thread_id in ids}

        def expected() -> list[list[Fields]]:
            for thread_id, batch in batches.items():
                self.model.append(thread_id, batch)
            return list(batches.values())

        def actual(side: Side) -> Any:
            return side.together(
                [("add_messages", (each, [made(m) for m in batch])) for each, batch in batches.items()]
            )

        self.agree(expected, actual)

    @rule(place=PLACES)
    def get_thread(self, place: int) -> None:
        thread_id = self.thread_id(place)

        def expected() -> list[Any]:
            thread = self.model.thread(thread_id)
            kept = live(thread["messages"])
            return [head_of(thread_id, thread), kept, len(kept) < len(thread["messages"])]

        def actual(side: Side) -> Any:
            thread = side.manage("get_thread", thread_id)
            return [thread, thread.messages, thread.partial]

        self.agree(expected, actual)

    @rule(place=PLACES)
    def context(self, place: int) -> None:
        thread_id = self.thread_id(place)
        contexts: list[str] = []

        def actual(side: Side) -> Any:
            sent = [shown(message) for message in side.manage("context", thread_id)]
            check_tool_order([message["wire"] for message in sent])
            said = [
                each
                for each in live(self.model.threads[thread_id]["messages"])
                if each["wire"]["role"] in ("user", "system", "developer")
            ]
            kept = [message for message in sent if message["wire"]["role"] in ("user", "system", "developer")]
            same(side, [_sent(message) for message in kept], [_sent(message) for message in said])
            contexts.append(text(sent))

        self.agree(lambda: self.model.thread(thread_id) and None, actual)
        assert len(set(contexts)) <= 1

    @rule(place=PLACES, limit=st.none() | LIMITS, include_superseded=st.booleans())
    def get_messages(self, place: int, limit: int | None, include_superseded: bool) -> None:
        thread_id = self.thread_id(place)
        bounds: dict[str, Any] = {"limit": limit, "include_superseded": include_superseded}

        def expected() -> list[Fields]:
            self.model.thread(thread_id)
            return self.model.messages(thread_id, **bounds)

        self.agree(expected, lambda side: side.manage("get_messages", thread_id, **bounds))

    @rule(limit=LIMITS, offset=st.integers(0, 8))
    def list_threads(self, limit: int, offset: int) -> None:
        def expected() -> list[Fields]:
            return [head_of(each, self.model.threads[each]) for each in self.model.listed(limit, offset)]

        self.agree(expected, lambda side: side.manage("list_threads", limit, offset))

    @rule(
        user_id=st.sampled_from((None, "ann", "bob")),
        metadata=st.sampled_from((None, {}, {"true": True}, {"dict": {"deep": {}}}, {"string": "another"})),
        newest_first=st.booleans(),
        size=st.integers(1, 3),
    )
    def pages_of_threads(self, user_id: str | None, metadata: Any, newest_first: bool, size: int) -> None:
        """All pages by cursor are the list."""

        def expected() -> list[Fields]:
            kept = [
                head_of(thread_id, thread)
                for thread_id, thread in self.model.threads.items()
                if user_id in (None, thread["user_id"]) and holds(thread["metadata"], metadata or {})
            ]
            return kept[::-1] if newest_first else kept

        def actual(side: Side) -> Any:
            wanted = {"user_id": user_id, "metadata": metadata, "order_by": "-created" if newest_first else "created"}
            found: list[Any] = []
            page = side.manage("list_threads", size, **wanted)
            while page:
                found.extend(page)
                page = side.manage("list_threads", size, after=page[-1], **wanted)
            return found

        self.agree(expected, actual)

    @rule(place=PLACES, superseded=st.booleans(), of_user=st.booleans())
    def what_was_said_is_found(self, place: int, superseded: bool, of_user: bool) -> None:
        """A word said once finds its message first, in its thread and for its user alone; not once it is superseded."""
        thread_id = self.thread_id(place)
        if thread_id not in self.model.threads:
            return
        word = f"zq{self.step}x"
        wire = {"role": "user", "content": f"{word} is the word"}
        message = {**values.PLAIN, "id": id_of(self.step, 0), "created_at": time_of(self.step), "wire": wire}
        message["superseded"] = superseded
        self.model.append(thread_id, [message])
        user_id = self.model.threads[thread_id]["user_id"] if of_user else None
        scope = {"user_id": user_id} if user_id in ("ann", "bob") else {"thread_id": thread_id}
        there = {each["id"] for each in live(self.model.threads[thread_id]["messages"])}

        def actual(side: Side) -> Any:
            side.manage("add_messages", thread_id, [made(message)])
            hits = side.manage("search_messages", word, **scope)
            assert {hit.thread_id for hit in hits} <= {thread_id}
            assert {hit.message.id for hit in hits} <= there
            return [hit.message.id for hit in hits[:1]]

        self.agree(lambda: [] if superseded else [message["id"]], actual)

    @rule(
        place=PLACES, fields=st.fixed_dictionaries({}, optional={"title": values.TITLES, "metadata": values.METADATAS})
    )
    def update_thread(self, place: int, fields: Fields) -> None:
        thread_id = self.thread_id(place)

        def expected() -> None:
            if not fields:
                raise Refused(ConfigurationError)
            self.model.patch(thread_id, **fields)

        def actual(side: Side) -> None:
            given = copy.deepcopy(fields)
            side.manage("update_thread", thread_id, **given)
            spoil(given)

        self.agree(expected, actual)

    @rule(place=PLACES)
    def delete_thread(self, place: int) -> None:
        thread_id = self.thread_id(place)
        self.agree(lambda: self.model.delete(thread_id), lambda side: side.manage("delete_thread", thread_id))

    @rule(
        place=PLACES,
        method=st.sampled_from(("get_thread", "context", "get_messages", "delete_thread")),
        thread_id=st.sampled_from(("", None, 7, b"a", values.SURROGATE)),
    )
    def a_bad_thread_id(self, place: int, method: str, thread_id: Any) -> None:
        def actual(side: Side) -> None:
            if side.manage(method, thread_id) is False:
                raise ValidationError("nothing there, nothing done")

        self.agree(refused(ValidationError, ThreadNotFoundError), actual)

    @rule(thread_id=st.sampled_from(("", 7, b"a", ["a"], values.SURROGATE)))
    def a_thread_of_a_bad_id(self, thread_id: Any) -> None:
        self.agree(refused(ValidationError), lambda side: side.manage("create_thread", thread_id=thread_id))

    @rule(place=PLACES, limit=st.sampled_from((0, -1, -(2**70))))
    def a_bad_limit(self, place: int, limit: Any) -> None:
        thread_id = self.thread_id(place)
        self.agree(refused(ValidationError), lambda side: side.manage("get_messages", thread_id, limit=limit))
        self.agree(refused(ValidationError), lambda side: side.manage("list_threads", limit))
        self.agree(refused(ValidationError), lambda side: side.manage("list_threads", 10, limit or -3))

    @rule(place=PLACES, role=st.sampled_from(("bot", "", None, 3, "User")))
    def a_bad_role(self, place: int, role: Any) -> None:
        thread_id = self.thread_id(place)
        self.agree(refused(ValidationError), lambda side: side.manage("add_message", thread_id, "hi", role))

    @rule(place=PLACES, content=st.sampled_from((3, b"hi", {"type": "text"}, [1], object())))
    def a_bad_content(self, place: int, content: Any) -> None:
        thread_id = self.thread_id(place)
        self.agree(refused(ValidationError), lambda side: side.manage("add_message", thread_id, content, "user"))

    @rule(place=PLACES, kind=st.sampled_from(sorted(values.NOT_JSON)), way=st.integers(0, 5))
    def what_is_no_json(self, place: int, kind: str, way: int) -> None:
        thread_id = self.thread_id(place)
        value = values.NOT_JSON[kind]

        def actual(side: Side) -> Any:
            if way == 0:
                return side.manage("add_message", thread_id, "hi", "user", {"k": value})
            if way == 1:
                return side.manage("add_message", thread_id, [{"type": "text", "text": value}], "user")
            if way == 2:
                good, bad = Message("good", "user"), Message(wire={"role": "user", "content": "hi", "x": value})
                return side.manage("add_messages", thread_id, [good, bad, good])
            if way == 3:
                return side.manage("create_thread", {"k": value}, thread_id="new")
            if way == 4:
                return side.manage("update_thread", thread_id, metadata={"k": value})
            return side.manage("update_thread", thread_id, title=value)

        self.agree(refused(ValidationError, ThreadNotFoundError), actual)
