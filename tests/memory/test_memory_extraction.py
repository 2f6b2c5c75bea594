"""Facts are taken from turns behind the conversation's back: each user's own, in order, and nothing is lost by it."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest

from memexllm import (
    AsyncHistoryManager,
    AsyncMemoryManager,
    HistoryManager,
    MemoryManager,
    MemoryRecord,
    MemoryStorage,
    Message,
    Plugin,
    StorageError,
    with_history,
)
from memexllm.core.errors import ConfigurationError, ValidationError
from memexllm.memory import AsyncFactExtraction, ExtractionCounts, FactExtraction, InMemoryVectorDatabase
from memexllm.memory.embeddings import HashingEmbeddings
from memexllm.testing import OpenAIServer
from tests.openai.talking import async_sdk_client, sdk_client
from tests.storage.custom import AsyncDictStorage, PlainStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOON = 30


@pytest.fixture
def memory() -> Iterator[MemoryManager]:
    with MemoryManager(InMemoryVectorDatabase(HashingEmbeddings(64))) as manager:
        yield manager


@pytest.fixture(scope="module")
def _server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server
    gc.collect()


@pytest.fixture
def server(_server: OpenAIServer) -> OpenAIServer:
    _server.clear()
    return _server


def what_users_said(messages: list[Message], known: list[MemoryRecord]) -> list[str]:
    return [message.text for message in messages if message.role == "user"]


def loaded(extraction: FactExtraction, storage: Any = None) -> HistoryManager:
    return HistoryManager(storage or MemoryStorage(), plugins=[extraction])


def say(manager: HistoryManager, thread_id: str, question: str, user_id: str | None = None) -> None:
    """A turn that is answered."""
    if not manager.storage.get_thread(thread_id):
        manager.create_thread(thread_id=thread_id, user_id=user_id)
    manager.add_messages(thread_id, [Message(question, "user"), Message("I see.", "assistant")])


def facts_of(memory: MemoryManager, **filters: Any) -> list[str]:
    return [record.text for record in memory.list(**filters)]


class Held:
    """An extractor that answers when it is let go."""

    def __init__(self, extractor: Callable[..., Any] = what_users_said) -> None:
        self.asked, self.go = threading.Event(), threading.Event()
        self.extractor = extractor

    def __call__(self, messages: list[Message], known: list[MemoryRecord]) -> Any:
        self.asked.set()
        assert self.go.wait(SOON)
        return self.extractor(messages, known)


def test_a_call_does_not_wait_for_the_extractor_and_flush_does(memory: MemoryManager) -> None:
    held = Held()
    extraction = FactExtraction(memory, held)
    manager = loaded(extraction)
    say(manager, "t", "I like tea", "ada")
    assert held.asked.wait(SOON)
    assert (extraction.waiting, extraction.flush(0.001), memory.count()) == (1, False, 0)
    held.go.set()
    assert extraction.flush(SOON)
    extraction.close()
    assert facts_of(memory, user_id="ada") == ["I like tea"]
    assert extraction.counts == ExtractionCounts(turns=1, facts=1)


def test_the_next_turn_finds_the_thread_of_the_one_before_and_close_ends_it(memory: MemoryManager) -> None:
    workers: list[threading.Thread] = []

    class Telling(Plugin):
        def on_memory_added(self, memory: Any) -> None:
            workers.append(threading.current_thread())

    memory.load_plugin(Telling)
    with FactExtraction(memory, what_users_said, at_once=1) as extraction:
        manager = loaded(extraction)
        for said in ("one", "two"):
            say(manager, "t", said, "ada")
            assert extraction.flush(SOON)
    assert len(workers) == 2
    assert workers[0] is workers[1]
    workers[0].join(SOON)
    assert not workers[0].is_alive()


def test_facts_are_the_users_of_the_thread_whatever_the_extractor_says(memory: MemoryManager) -> None:
    bobs = memory.add("Bob likes tea", user_id="bob")
    shown: list[list[str]] = []

    def extract(messages: list[Message], known: list[MemoryRecord]) -> list[MemoryRecord]:
        shown.append([record.text for record in known])
        said = what_users_said(messages, known)[0]
        return [MemoryRecord(said, user_id="bob", thread_id="other", id=bobs.id, metadata={"of": "tea"})]

    with FactExtraction(memory, extract) as extraction:
        manager = loaded(extraction)
        say(manager, "a", "tea for Ada", "ada")
        say(manager, "n", "tea for nobody")
        say(manager, "m", "tea for nobody else")
        say(manager, "n", "more tea for nobody")
    assert memory.get(bobs.id) == bobs
    assert facts_of(memory, user_id="bob") == ["Bob likes tea"]
    of_ada = memory.list(user_id="ada")[0]
    assert (of_ada.text, of_ada.thread_id, of_ada.metadata) == ("tea for Ada", "a", {"of": "tea"})
    # What is nobody's is its thread's: what another thread said is not known there.
    assert sorted(shown) == [[], [], [], ["tea for nobody"]]
    assert extraction.counts == ExtractionCounts(turns=4, facts=4)


def test_what_is_said_twice_is_stored_once(memory: MemoryManager) -> None:
    with FactExtraction(memory, what_users_said) as extraction:
        manager = loaded(extraction)
        for thread_id in ("one", "two"):
            say(manager, thread_id, "I like tea", "ada")
        say(manager, "three", "I like tea", "bob")
    assert facts_of(memory) == ["I like tea", "I like tea"]
    assert extraction.counts == ExtractionCounts(turns=3, facts=2)


def test_a_known_fact_is_changed_by_its_id_and_keeps_what_is_not_said_anew(memory: MemoryManager) -> None:
    old = memory.add("Ada lives in Oslo", user_id="ada", metadata={"sure": True})

    def extract(messages: list[Message], known: list[MemoryRecord]) -> list[Any]:
        assert [record.id for record in known] == [old.id]
        return [MemoryRecord("Ada lives in Bergen", id=known[0].id), "Ada moved"]

    with FactExtraction(memory, extract) as extraction:
        say(loaded(extraction), "t", "I no longer live in Oslo", "ada")
    now = memory.get(old.id)
    assert (now.text, now.metadata) == ("Ada lives in Bergen", {"sure": True})
    assert sorted(facts_of(memory, user_id="ada")) == ["Ada lives in Bergen", "Ada moved"]
    assert extraction.counts == ExtractionCounts(turns=1, facts=1, updated=1)


class RefusedError(RuntimeError):
    pass


def raising(messages: list[Message], known: list[MemoryRecord]) -> Any:
    raise RefusedError(messages[0].text)


ANSWERS: dict[str, tuple[Any, str | None]] = {
    "none": (lambda *_: None, None),
    "blank": (lambda *_: ["", "  "], None),
    "raises": (raising, "RefusedError"),
    "a text": (lambda *_: "Ada likes tea", "TypeError"),
    "numbers": (lambda *_: ["Ada likes tea", 3], "TypeError"),
    "a dict": (lambda *_: {"facts": []}, "TypeError"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_of_no_use_is_counted_and_logged_and_the_turn_is_stored(
    name: str, memory: MemoryManager, caplog: pytest.LogCaptureFixture
) -> None:
    answer, why = ANSWERS[name]
    with FactExtraction(memory, answer) as extraction:
        manager = loaded(extraction)
        say(manager, "t", "a secret", "ada")
    assert len(manager.get_messages("t")) == 2
    assert memory.count() == 0
    assert extraction.counts == (ExtractionCounts(failed=1) if why else ExtractionCounts(turns=1))
    logged = [record.message for record in caplog.records]
    assert logged == ([f"facts of a turn of thread 't' were not extracted ({why}); the turn is stored"] if why else [])
    assert "secret" not in caplog.text


def test_an_extractor_that_hangs_is_left_behind_and_the_next_turn_is_done(memory: MemoryManager) -> None:
    go = threading.Event()

    def hanging_once(messages: list[Message], known: list[MemoryRecord]) -> Any:
        said = what_users_said(messages, known)
        if said == ["one"]:
            go.wait(SOON)
        return said

    with FactExtraction(memory, hanging_once, timeout_s=1.0) as extraction:
        manager = loaded(extraction)
        say(manager, "t", "one", "ada")
        say(manager, "t", "two", "ada")
    go.set()
    assert facts_of(memory) == ["two"]
    assert extraction.counts == ExtractionCounts(turns=1, facts=1, failed=1)


class Down(HashingEmbeddings):
    def embed_batch(self, texts: Any) -> Any:
        if "secret" in texts:
            raise RefusedError("secret")
        return super().embed_batch(texts)


def test_a_memory_that_fails_is_counted_and_the_next_turn_is_done(caplog: pytest.LogCaptureFixture) -> None:
    memory = MemoryManager(InMemoryVectorDatabase(Down(64)))
    with memory, FactExtraction(memory, what_users_said) as extraction:
        manager = loaded(extraction)
        say(manager, "t", "secret", "ada")
        say(manager, "t", "known", "ada")
        assert extraction.flush(SOON)
        assert facts_of(memory) == ["known"]
    assert extraction.counts == ExtractionCounts(turns=1, facts=1, failed=1)
    assert "ProviderError" in caplog.text
    assert "secret" not in caplog.text


def test_a_storage_that_cannot_be_read_is_counted(memory: MemoryManager, caplog: pytest.LogCaptureFixture) -> None:
    class Unreadable(MemoryStorage):
        def read_head(self, thread_id: str) -> Any:
            if threading.current_thread().name == "memexllm-extraction":
                raise StorageError("secret")
            return super().read_head(thread_id)

    with FactExtraction(memory, what_users_said) as extraction:
        say(loaded(extraction, Unreadable()), "t", "lost", "ada")
    assert extraction.counts == ExtractionCounts(failed=1)
    assert memory.count() == 0
    assert "secret" not in caplog.text


def test_turns_of_one_user_are_done_in_order_and_users_do_not_wait_for_each_other(memory: MemoryManager) -> None:
    held, order = Held(), []

    def extract(messages: list[Message], known: list[MemoryRecord]) -> Any:
        said = what_users_said(messages, known)
        if said[0].startswith("Ada"):
            held(messages, known)
        order.append(said[0])
        return said

    extraction = FactExtraction(memory, extract, at_once=2)
    manager = loaded(extraction)
    bobs = threading.Event()
    memory.load_plugin(type("Telling", (), {"on_memory_added": lambda _, record: bobs.set()}))
    for number in range(5):
        say(manager, f"t{number}", f"Ada {number}", "ada")
    assert held.asked.wait(SOON)
    say(manager, "bob", "Bob", "bob")
    assert bobs.wait(SOON)
    assert order == ["Bob"]
    held.go.set()
    extraction.close()
    assert order == ["Bob", *(f"Ada {number}" for number in range(5))]


def test_a_user_whose_turn_came_while_others_were_sorted_does_not_wait_for_another_call(memory: MemoryManager) -> None:
    sorting, held, bobs = threading.Event(), Held(), threading.Event()

    class Slow(MemoryStorage):
        def read_head(self, thread_id: str) -> Any:
            if threading.current_thread().name == "memexllm-extraction":
                assert sorting.wait(SOON)
            return super().read_head(thread_id)

    def extract(messages: list[Message], known: list[MemoryRecord]) -> Any:
        if what_users_said(messages, known) == ["Bob"]:
            bobs.set()
        else:
            held(messages, known)

    with FactExtraction(memory, extract) as extraction:
        manager = loaded(extraction, Slow())
        say(manager, "a", "Ada", "ada")
        say(manager, "b", "Bob", "bob")
        sorting.set()
        assert bobs.wait(SOON)
        held.go.set()
    assert extraction.counts.turns == 2


@pytest.mark.parametrize("storage", [MemoryStorage, PlainStorage], ids=["memory", "whole threads"])
def test_a_turn_is_what_was_said_since_the_answer_before_and_ends_with_an_answer(
    memory: MemoryManager, storage: Any
) -> None:
    seen: list[list[tuple[str, str]]] = []

    def extract(messages: list[Message], known: list[MemoryRecord]) -> None:
        seen.append([(message.role, message.text) for message in messages])
        messages[0].wire["content"] = "changed"

    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    with FactExtraction(memory, extract) as extraction:
        manager = loaded(extraction, storage())
        manager.create_thread(thread_id="t")
        manager.add_message("t", "Be brief.", "system")
        manager.add_message("t", "one", "user")
        manager.add_message("t", "first", "assistant")
        manager.add_message("t", "two", "user")
        manager.add_messages("t", [Message(None, "assistant", tool_calls=[call])])
        assert extraction.flush(SOON)
        assert len(seen) == 1
        manager.add_messages("t", [Message("42", "tool", tool_call_id="c")])
        manager.add_messages("t", [Message("cut off", "assistant", status="incomplete")])
        for number in range(60):
            manager.add_message("t", f"and {number}", "user")
        manager.add_message("t", "second", "assistant")
        manager.add_message("t", "unasked", "assistant")
    assert seen == [
        [("user", "one"), ("assistant", "first")],
        [("user", "two"), *(("user", f"and {number}") for number in range(60)), ("assistant", "second")],
    ]
    assert manager.get_messages("t")[1].text == "one"


def test_nothing_is_taken_from_what_was_superseded_or_deleted_meanwhile(memory: MemoryManager) -> None:
    held = Held()
    extraction = FactExtraction(memory, held, at_once=1)
    manager = loaded(extraction)
    say(manager, "first", "hold", "ada")
    assert held.asked.wait(SOON)
    say(manager, "t", "I like tea", "ada")
    say(manager, "gone", "I like milk", "ada")
    manager.edit_message("t", manager.get_messages("t")[0].id, "I like coffee")
    manager.delete_thread("gone")
    held.go.set()
    extraction.flush()
    assert facts_of(memory) == ["hold"]
    manager.add_message("t", "I see.", "assistant")
    extraction.close()
    assert facts_of(memory) == ["hold", "I like coffee"]


def test_imports_and_copies_are_left_out_unless_asked_for(memory: MemoryManager) -> None:
    with FactExtraction(memory, what_users_said) as extraction:
        manager = loaded(extraction)
        manager.storage.save_thread(
            manager.create_thread(thread_id="source", user_id="ada").changed(
                messages=[Message("one", "user"), Message("1", "assistant"), Message("two", "user")], partial=False
            )
        )
        manager.fork("source", new_thread_id="copy")
        assert extraction.flush(SOON)
        assert memory.count() == 0
        assert extraction.extract("source")
    assert facts_of(memory, user_id="ada") == ["one"]


def test_more_than_may_wait_is_dropped_counted_and_can_be_asked_for(
    memory: MemoryManager, caplog: pytest.LogCaptureFixture
) -> None:
    held = Held()
    extraction = FactExtraction(memory, held, max_waiting=2)
    manager = loaded(extraction)
    say(manager, "t", "zero", "ada")
    assert held.asked.wait(SOON)
    for said in ("one", "two", "three"):
        say(manager, "t", said, "ada")
    assert (extraction.waiting, extraction.counts.dropped) == (2, 2)
    assert "too many turns wait" in caplog.text
    held.go.set()
    extraction.flush()
    assert facts_of(memory) == ["zero", "one"]
    extraction.extract("t")
    extraction.close()
    assert facts_of(memory) == ["zero", "one", "two", "three"]
    say(manager, "t", "four", "ada")
    assert (memory.count(), extraction.counts.dropped) == (4, 3)


def test_what_cannot_work_is_refused_when_it_is_put_together(memory: MemoryManager, server: OpenAIServer) -> None:
    async def awaited(messages: list[Message], known: list[MemoryRecord]) -> list[str]:
        return []

    for make, match in (
        (lambda: FactExtraction(memory, awaited), "AsyncFactExtraction"),
        (
            lambda: FactExtraction(AsyncMemoryManager(InMemoryVectorDatabase(HashingEmbeddings(8))), what_users_said),
            "MemoryManager",
        ),
        (lambda: AsyncFactExtraction(memory, awaited), "AsyncMemoryManager"),
        (lambda: FactExtraction(memory, "gpt"), "callable"),
        (lambda: FactExtraction(memory, what_users_said, model="m"), "model="),
        (lambda: memory.load_plugin(FactExtraction(memory, what_users_said)), "told of threads"),
        (lambda: AsyncHistoryManager(AsyncDictStorage(), plugins=[FactExtraction(memory, what_users_said)]), "Async"),
        (lambda: FactExtraction(memory, what_users_said).extract("t"), "not loaded"),
    ):
        with pytest.raises(ConfigurationError, match=match):
            make()
    refused: list[dict[str, Any]] = [{"known": -1}, {"at_once": 0}, {"max_waiting": 0}, {"timeout_s": 0}]
    for wrong in refused:
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            FactExtraction(memory, what_users_said, **wrong)
    with sdk_client(server) as original:
        with pytest.raises(ConfigurationError, match="model="):
            FactExtraction(memory, original)
        with pytest.raises(ConfigurationError, match="history itself"):
            FactExtraction(memory, with_history(original, storage=MemoryStorage()), model="m")


def test_an_extraction_is_of_one_storage(memory: MemoryManager) -> None:
    extraction, storage = FactExtraction(memory, what_users_said), MemoryStorage()
    loaded(extraction, storage)
    again = loaded(extraction, storage)
    with pytest.raises(ConfigurationError, match="another storage"):
        loaded(extraction)
    other = HistoryManager(MemoryStorage())
    with pytest.raises(ConfigurationError, match="another storage"):
        other.load_plugin(extraction)
    assert (again.plugins, other.plugins) == ((extraction,), ())


def found(*facts: str, **changed: str) -> str:
    return json.dumps({"facts": facts, "changed": {name.lstrip("n"): text for name, text in changed.items()}})


def test_an_openai_client_extracts_what_is_new_and_changes_what_was_known(
    memory: MemoryManager, server: OpenAIServer
) -> None:
    with sdk_client(server) as original:
        extraction = FactExtraction(memory, original, model="small")
        client: Any = with_history(original, storage=MemoryStorage(), plugins=[extraction]).for_user("ada")

        def talk(said: str, thread_id: str, facts: str) -> None:
            server.answer("I see.")
            server.answer(facts)
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": said}], thread_id=thread_id)
            assert extraction.flush(SOON)

        talk("I live in Oslo", "a", found("Ada lives in Oslo"))
        talk("I moved from Oslo to Bergen", "b", f"```json\n{found(n1='Ada lives in Bergen', n7='nothing')}\n```")
        talk("I like tea", "b", "no JSON")
        request = server.chat_requests[3].body
        assert request["model"] == "small"
        assert "1. Ada lives in Oslo" in request["messages"][1]["content"]
        assert "user: I moved from Oslo to Bergen\nassistant: I see." in request["messages"][1]["content"]
        extraction.close()
    assert facts_of(memory, user_id="ada") == ["Ada lives in Bergen"]
    assert extraction.counts == ExtractionCounts(turns=2, facts=1, updated=1, failed=1)


@pytest.mark.parametrize("way", ["stream", "responses", "streamed responses"])
def test_whichever_way_a_client_talks_its_turns_are_taken_once(
    way: str, memory: MemoryManager, server: OpenAIServer
) -> None:
    with sdk_client(server) as original, FactExtraction(memory, what_users_said) as extraction:
        client: Any = with_history(original, storage=MemoryStorage(), plugins=[extraction]).for_user("ada")
        for said in ("one", "two"):
            if way == "stream":
                messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": said}]
                stream = client.chat.completions.create(model="m", messages=messages, thread_id="t", stream=True)
                assert list(stream)
            elif way == "responses":
                client.responses.create(model="m", input=said, thread_id="t")
            else:
                assert list(client.responses.create(model="m", input=said, thread_id="t", stream=True))
    assert facts_of(memory, user_id="ada") == ["one", "two"]
    assert extraction.counts == ExtractionCounts(turns=2, facts=2)


async def test_threads_work_for_an_asynchronous_manager_over_a_storage_that_is_not(memory: MemoryManager) -> None:
    with FactExtraction(memory, what_users_said) as extraction:
        manager = AsyncHistoryManager(MemoryStorage(), plugins=[extraction])
        await manager.create_thread(thread_id="t", user_id="ada")
        await manager.add_messages("t", [Message("one", "user"), Message("I see.", "assistant")])
    assert facts_of(memory, user_id="ada") == ["one"]


async def test_an_asynchronous_client_waits_for_nothing_either(server: OpenAIServer) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def extract(messages: list[Message], known: list[MemoryRecord]) -> list[str]:
        asked.set()
        await go.wait()
        return what_users_said(messages, known)

    memory = AsyncMemoryManager(InMemoryVectorDatabase(HashingEmbeddings(64)))
    async with async_sdk_client(server) as original, AsyncFactExtraction(memory, extract) as extraction:
        client: Any = with_history(original, storage=AsyncDictStorage(), plugins=[extraction])
        for thread_id, said in (("a", "one"), ("b", "two"), ("a", "one")):
            await client.for_user("ada").chat.completions.create(
                model="m", messages=[{"role": "user", "content": said}], thread_id=thread_id
            )
        await asked.wait()
        assert not await extraction.flush(0.001)
        go.set()
        assert await extraction.flush(SOON)
        assert [record.text for record in await memory.list(user_id="ada")] == ["one", "two"]
        assert await extraction.extract("a")
    assert extraction.counts.facts == 2
    await memory.close()


async def test_an_asynchronous_openai_client_extracts(server: OpenAIServer) -> None:
    memory = AsyncMemoryManager(InMemoryVectorDatabase(HashingEmbeddings(64)))
    async with async_sdk_client(server) as original:
        extraction = AsyncFactExtraction(memory, original, model="small")
        manager = AsyncHistoryManager(MemoryStorage(), plugins=[extraction])
        await manager.create_thread(thread_id="t", user_id="ada")
        server.answer(found("Ada likes tea"))
        await manager.add_messages("t", [Message("I like tea", "user"), Message("I see.", "assistant")])
        await extraction.close()
    assert [record.text for record in await memory.list(user_id="ada")] == ["Ada likes tea"]
    await memory.close()


def test_an_asynchronous_client_cannot_extract_for_a_synchronous_one(
    memory: MemoryManager, server: OpenAIServer, caplog: pytest.LogCaptureFixture
) -> None:
    original = async_sdk_client(server)
    with FactExtraction(memory, original, model="m") as extraction:
        say(loaded(extraction), "t", "one", "ada")
    asyncio.run(original.close())
    assert extraction.counts == ExtractionCounts(failed=1)
    assert "use AsyncFactExtraction" in caplog.text


current: ContextVar[str] = ContextVar("current", default="nobody")


async def test_an_extractor_runs_in_no_calls_context() -> None:
    seen: list[str] = []

    async def extract(messages: list[Message], known: list[MemoryRecord]) -> None:
        seen.append(current.get())

    memory = AsyncMemoryManager(InMemoryVectorDatabase(HashingEmbeddings(64)))
    async with AsyncFactExtraction(memory, extract) as extraction:
        manager = AsyncHistoryManager(MemoryStorage(), plugins=[extraction])
        await manager.create_thread(thread_id="t", user_id="ada")
        current.set("ada")
        await manager.add_messages("t", [Message("one", "user"), Message("I see.", "assistant")])
    assert seen == ["nobody"]
    await memory.close()


def test_what_a_closed_loop_left_undone_goes_on_in_the_next() -> None:
    memory = AsyncMemoryManager(InMemoryVectorDatabase(HashingEmbeddings(64)))
    asked, held = asyncio.Event(), True

    async def extract(messages: list[Message], known: list[MemoryRecord]) -> list[str]:
        asked.set()
        if held:
            await asyncio.Event().wait()
        return what_users_said(messages, known)

    extraction = AsyncFactExtraction(memory, extract, at_once=1)
    manager = AsyncHistoryManager(MemoryStorage(), plugins=[extraction])

    async def talk() -> None:
        await manager.create_thread(thread_id="t", user_id="ada")
        for said in ("one", "two"):
            await manager.add_messages("t", [Message(said, "user"), Message("I see.", "assistant")])
        await asked.wait()

    async def finish() -> list[str]:
        await extraction.flush()
        texts = [record.text for record in await memory.list()]
        await memory.close()
        return texts

    asyncio.run(talk())
    held = False
    assert asyncio.run(finish()) == ["two"]
    assert extraction.counts == ExtractionCounts(turns=1, facts=1, failed=1)
