"""The session by itself: items come out as they went in, over every kind of storage."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import OpenAI

from memexllm import HistoryManager, MemoryStorage, SQLiteStorage, ThreadNotFoundError, with_history
from memexllm.algorithms import FIFOAlgorithm, TokenWindowAlgorithm
from memexllm.core.errors import ConfigurationError, StorageError, ValidationError
from memexllm.integrations.openai.items_read import call_id_of, is_call, is_result
from memexllm.integrations.openai_agents import MemexSession
from tests.storage.custom import AsyncDictStorage, LiveDictStorage, PlainAsyncStorage, PlainStorage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from memexllm.testing import OpenAIServer

Item = dict[str, Any]
STORAGES: list[Callable[[], Any]] = [
    MemoryStorage,
    lambda: SQLiteStorage(":memory:"),
    LiveDictStorage,
    PlainStorage,
    AsyncDictStorage,
    PlainAsyncStorage,
]
storages = pytest.mark.parametrize(
    "make_storage", STORAGES, ids=["memory", "sqlite", "sync", "plain sync", "async", "plain async"]
)


def user(text: str) -> Item:
    return {"content": text, "role": "user"}


def said(text: str) -> Item:
    return {
        "type": "message",
        "role": "assistant",
        "id": f"msg_{text}",
        "content": [{"type": "output_text", "text": text}],
    }


def called(call_id: str) -> Item:
    return {"type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}"}


def result(call_id: str) -> Item:
    return {"type": "function_call_output", "call_id": call_id, "output": f"result of {call_id}"}


def reasoned(name: str) -> Item:
    return {"type": "reasoning", "id": f"rs_{name}", "summary": []}


MEETING = [
    user("Hello"),
    reasoned("1"),
    called("a"),
    called("b"),
    result("a"),
    result("b"),
    reasoned("2"),
    said("Done"),
    user("And now?"),
    said("Nothing"),
]
ODD: list[Item] = [
    {"role": "critic", "content": "not good"},
    {"role": "tool", "content": "raw"},
    {"role": "user", "content": {"odd": 1}},
    {"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}, 7]},
    {"type": "of_tomorrow", "payload": [1, None, {"deep": True}]},
    {"__enc__": 1, "payload": "x"},
    {"type": "item_reference", "id": "msg_1"},
    {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}},
    {"type": "computer_call", "id": "c", "call_id": "c", "action": {"type": "screenshot"}},
    {"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot", "image_url": "data:,"}},
    {"type": "custom_tool_call", "call_id": "d", "name": "sql", "input": "select 1"},
    {"type": "custom_tool_call_output", "call_id": "d", "output": "1"},
    {"type": "mcp_approval_request", "id": "m", "name": "n", "arguments": "{}", "server_label": "s"},
    {"type": "mcp_approval_response", "approval_request_id": "m", "approve": True},
    {"type": "compaction", "encrypted_content": "zzz"},
    {"role": "assistant", "content": "short"},
    {"content": "short", "role": "assistant"},
    {"role": "assistant", "content": ""},
    {"role": "system", "content": "Be kind"},
    {"type": "message", "role": "developer", "content": "Be brief"},
    {},
]


def texts(items: Any) -> list[str]:
    """Equal when the items are, down to the order of their keys."""
    return [json.dumps(item) for item in items]


def conversations() -> st.SearchStrategy[list[Item]]:
    names = st.sampled_from("abc")
    one = st.one_of(
        st.builds(user, names),
        st.builds(said, names),
        st.builds(called, names),
        st.builds(result, names),
        st.builds(reasoned, names),
        st.sampled_from(ODD),
    )
    return st.lists(one, max_size=14)


def exchanges() -> st.SearchStrategy[list[Item]]:
    """Conversations as a runner leaves them: every result has its call, some calls wait for theirs."""

    def turn(number: int, n_calls: int, n_results: int, thinks: bool) -> list[Item]:
        ids = [f"{number}.{index}" for index in range(n_calls)]
        thought = [reasoned(str(number))] if thinks else []
        answer = [said(str(number))] if n_results == n_calls else []
        return [user(str(number)), *thought, *map(called, ids), *map(result, ids[:n_results]), *answer]

    turns = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), max_size=6)
    return turns.map(
        lambda given: [
            item for number, (n, m, thinks) in enumerate(given) for item in turn(number, n, min(n, m), thinks)
        ]
    )


def in_batches(items: list[Item], cuts: list[int]) -> list[list[Item]]:
    places = sorted({0, len(items), *(cut for cut in cuts if cut < len(items))})
    return [items[start:end] for start, end in pairwise(places)]


def turn_of(item: Item) -> str:
    """The turn of an item of `exchanges()`."""
    name = item.get("call_id") or item.get("id") or item["content"]
    return str(name).rpartition("_")[2].partition(".")[0]


async def filled(session: MemexSession, batches: list[list[Item]]) -> MemexSession:
    for batch in batches:
        await session.add_items(batch)  # type: ignore[arg-type]  # what a caller may pass in spite of its type
    return session


def stray_results(items: list[Item]) -> list[Item]:
    """Results before which their call does not stand."""
    return [
        item
        for index, item in enumerate(items)
        if is_result(item) and call_id_of(item) not in {call_id_of(each) for each in items[:index] if is_call(each)}
    ]


@storages
async def test_items_come_out_as_they_went_in(make_storage: Callable[[], Any]) -> None:
    session = await filled(MemexSession("t", make_storage()), [MEETING[:1], MEETING[1:6], MEETING[6:], ODD])
    assert texts(await session.get_items()) == texts([*MEETING, *ODD])


@storages
async def test_items_are_taken_back_one_by_one_in_reverse(make_storage: Callable[[], Any]) -> None:
    session = await filled(MemexSession("t", make_storage()), [MEETING, ODD])
    left = [*MEETING, *ODD]
    while left:
        assert texts([await session.pop_item()]) == texts([left.pop()])
        assert texts(await session.get_items()) == texts(left)
    assert await session.pop_item() is None


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(conversations(), st.sampled_from(["pop", "clear"])), max_size=8), st.sampled_from([0, 4]))
def test_a_session_is_a_list_of_items(steps: list[Any], which: int) -> None:
    async def law() -> None:
        session = MemexSession("t", STORAGES[which]())
        expected: list[Item] = []
        for step in steps:
            if step == "pop":
                popped = await session.pop_item()
                assert texts([popped]) == texts([expected.pop() if expected else None])
            elif step == "clear":
                await session.clear_session()
                expected = []
            else:
                await session.add_items(step)
                expected.extend(step)
            assert texts(await session.get_items()) == texts(expected)

    asyncio.run(law())


@settings(max_examples=150, deadline=None)
@given(conversations(), st.lists(st.integers(0, 14)))
def test_what_is_one_message_does_not_depend_on_the_batches(items: list[Item], cuts: list[int]) -> None:
    async def messages(batches: list[list[Item]]) -> list[Any]:
        session = await filled(MemexSession("t", MemoryStorage()), batches)
        if not batches:
            return []
        return [(message.wire, message.items) for message in await session.history.get_messages("t")]

    async def law() -> None:
        assert await messages(in_batches(items, cuts)) == await messages([items] if items else [])

    asyncio.run(law())


@settings(max_examples=200, deadline=None)
@given(exchanges(), st.lists(st.integers(0, 30)), st.integers(0, 30))
def test_a_limit_gives_the_newest_items_and_never_a_result_without_its_call(
    items: list[Item], cuts: list[int], limit: int
) -> None:
    async def law() -> None:
        session = await filled(MemexSession("t", MemoryStorage()), in_batches(items, cuts))
        found: list[Item] = list(await session.get_items(limit=limit))  # type: ignore[arg-type]  # items are dicts
        assert len(found) <= limit
        assert found == items[len(items) - len(found) :]
        assert stray_results(found) == []
        if len(found) < min(limit, len(items)):
            # Nothing was left out without need: one more item would have torn something apart.
            wider = items[len(items) - limit :]
            torn = stray_results(wider) or "reasoning" in {item.get("type") for item in items[: len(items) - limit]}
            assert torn

    asyncio.run(law())


@pytest.mark.parametrize("limit", range(len(MEETING) + 2))
async def test_reasoning_and_what_it_led_to_are_not_torn_apart_by_a_limit(limit: int) -> None:
    session = await filled(MemexSession("t", MemoryStorage()), [MEETING])
    found = await session.get_items(limit)
    expected = {0: 0, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 4, 8: 4, 9: 9}.get(limit, 10)
    assert texts(found) == texts(MEETING[len(MEETING) - expected :])


@settings(max_examples=150, deadline=None)
@given(exchanges(), st.lists(st.integers(0, 30)), st.integers(1, 12), st.booleans())
def test_a_window_keeps_a_call_with_its_result_and_reasoning_with_its_call(
    items: list[Item], cuts: list[int], size: int, tokens: bool
) -> None:
    algorithm = TokenWindowAlgorithm(max_tokens=size * 12) if tokens else FIFOAlgorithm(max_messages=size)

    async def law() -> None:
        session = MemexSession("t", MemoryStorage(), algorithm=algorithm)
        for batch in in_batches(items, cuts):
            await session.add_items(batch)  # type: ignore[arg-type]  # items are dicts
            found: list[Item] = list(await session.get_items())  # type: ignore[arg-type]  # items are dicts
            assert stray_results(found) == []
            answered = {call_id_of(item) for item in found if is_result(item)}
            waiting = [item for item in found if is_call(item) and call_id_of(item) not in answered]
            assert waiting == [] or turn_of(waiting[0]) == turn_of(batch[-1])
            for index, item in enumerate(items[1:], 1):
                if item in found and items[index - 1].get("type") == "reasoning":
                    assert items[index - 1] in found
            thoughts = [index for index, item in enumerate(found) if item.get("type") == "reasoning"]
            assert [index for index in thoughts if found[index + 1 :] and found[index + 1].get("role") == "user"] == []

    asyncio.run(law())


@storages
async def test_items_added_at_the_same_time_are_all_there_each_batch_in_one_piece(
    make_storage: Callable[[], Any],
) -> None:
    storage = make_storage()
    batches = [[said(f"{n}"), called(f"{n}"), result(f"{n}"), reasoned(f"{n}")] for n in range(20)]
    await asyncio.gather(*(MemexSession("t", storage).add_items(batch) for batch in batches))  # type: ignore[arg-type]
    found = texts(await MemexSession("t", storage).get_items())
    places = [found.index(texts(batch)[0]) for batch in batches]
    assert len(found) == 80
    assert [found[place : place + 4] for place in places] == [texts(batch) for batch in batches]


@storages
async def test_an_item_is_taken_back_once(make_storage: Callable[[], Any]) -> None:
    storage = make_storage()
    await filled(MemexSession("t", storage), [MEETING])
    popped = await asyncio.gather(*(MemexSession("t", storage).pop_item() for _ in MEETING))
    assert sorted(texts(popped)) == sorted(texts(MEETING))
    assert await MemexSession("t", storage).get_items() == []


@storages
def test_a_session_serves_one_event_loop_after_another(make_storage: Callable[[], Any]) -> None:
    session = MemexSession("t", make_storage())
    for item in MEETING:
        asyncio.run(session.add_items([item]))  # type: ignore[list-item]  # an item is a dict
    assert texts(asyncio.run(session.get_items())) == texts(MEETING)


async def test_sessions_of_one_file_see_each_other(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    async with MemexSession("t", path) as one, MemexSession("t", str(path)) as other:
        await filled(one, [MEETING[:6]])
        await filled(other, [MEETING[6:]])
        assert texts(await one.get_items()) == texts(MEETING)
    async with MemexSession("t", path) as later:
        assert texts(await later.get_items()) == texts(MEETING)


async def test_closing_a_session_leaves_a_storage_open_that_was_handed_to_it(tmp_path: Path) -> None:
    class Watched(MemoryStorage):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    storage = Watched()
    for given_ in (storage, HistoryManager(storage)):
        async with MemexSession("t", given_):
            pass
    assert storage.closed == 0


async def test_what_was_taken_back_stays_in_the_log() -> None:
    session = await filled(MemexSession("t", MemoryStorage()), [[user("Hello"), reasoned("1"), called("a")]])
    await session.pop_item()
    await session.add_items([called("b")])  # type: ignore[list-item]  # an item is a dict
    log = await session.history.get_messages("t", include_superseded=True)
    assert [message.items for message in log if not message.superseded] == [
        [user("Hello")],
        [reasoned("1"), called("b")],
    ]
    assert [reasoned("1"), called("a")] in [message.items for message in log if message.superseded]


async def test_a_cleared_session_keeps_its_thread_and_its_log() -> None:
    session = MemexSession("t", MemoryStorage(), algorithm=FIFOAlgorithm(max_messages=2))
    await session.history.create_thread({"topic": "tea"}, thread_id="t", title="Tea")
    await filled(session, [[{"role": "system", "content": "Be kind"}], MEETING])
    await session.get_items()
    await session.clear_session()
    assert await session.get_items() == await session.get_items(limit=5) == []
    head = (await session.history.list_threads())[0]
    assert (head.title, head.metadata) == ("Tea", {"topic": "tea"})
    assert len(await session.history.get_messages("t", include_superseded=True)) == 8
    await filled(session, [[user("Anew")]])
    assert await session.get_items() == [user("Anew")]


async def test_clearing_or_reading_what_was_never_written_creates_nothing() -> None:
    session = MemexSession("t", MemoryStorage())
    await session.clear_session()
    await session.add_items([])
    assert (await session.get_items(), await session.get_items(3), await session.pop_item()) == ([], [], None)
    assert await session.history.list_threads() == []


async def test_a_pin_is_kept_on_what_is_left_of_its_message() -> None:
    from memexllm import Message

    storage = MemoryStorage()
    session = MemexSession("t", storage, algorithm=FIFOAlgorithm(max_messages=2))
    await session.history.create_thread(thread_id="t")
    pinned = Message(wire={"role": "assistant", "content": "1\n\n2"}, items=[said("1"), said("2")], pinned=True)
    await session.history.add_messages("t", [pinned])
    await session.get_items()
    await session.pop_item()
    await filled(session, [[user(str(number))] for number in range(9)])
    assert (await session.get_items())[0] == said("1")


async def test_a_thread_of_another_user_is_not_there() -> None:
    storage = MemoryStorage()
    await filled(MemexSession("t", storage, user_id="alice"), [MEETING])
    assert (await MemexSession("t", storage).history.list_threads(user_id="alice"))[0].id == "t"
    other = MemexSession("t", storage, user_id="bob")
    for operation in (other.get_items(), other.get_items(2), other.pop_item()):
        with pytest.raises(ThreadNotFoundError):
            await operation
    for item in (user("Hi"), said("Hi")):
        with pytest.raises(ThreadNotFoundError):
            await filled(other, [[item]])
    with pytest.raises(ThreadNotFoundError):
        await other.clear_session()
    assert texts(await MemexSession("t", storage).get_items()) == texts(MEETING)


@storages
async def test_items_are_the_callers(make_storage: Callable[[], Any]) -> None:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}
    session = MemexSession("t", make_storage())
    await filled(session, [[item]])
    item["content"] = "changed"
    got: Any = (await session.get_items())[0]
    got["content"][0]["text"] = "changed"
    assert (await session.get_items()) == [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}
    ]


async def test_a_conversation_of_a_wrapped_client_goes_on_as_items(openai_server: OpenAIServer) -> None:
    storage = MemoryStorage()
    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    with OpenAI(base_url=openai_server.base_url, api_key="local") as api:
        client = with_history(api, storage=storage)
        messages: Any = [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Call weather"}]
        answer = client.chat.completions.create(model="gpt-4o", messages=messages, tools=tools, thread_id="t")
        call = (answer.choices[0].message.tool_calls or [])[0]
        outcome: Any = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
        client.chat.completions.create(model="gpt-4o", messages=outcome, thread_id="t")
    session = MemexSession("t", HistoryManager(storage))
    assert await session.get_items() == [
        {"role": "system", "content": "Be kind"},
        {"role": "user", "content": "Call weather"},
        {"type": "function_call", "call_id": call.id, "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": call.id, "output": "sunny"},
        {"role": "assistant", "content": "The result of weather is: sunny"},
    ]
    assert await session.pop_item() == {"role": "assistant", "content": "The result of weather is: sunny"}
    assert stray_results(list(await session.get_items(limit=1))) == []  # type: ignore[arg-type]  # items are dicts


async def test_search_and_explanations_are_the_managers() -> None:
    session = await filled(MemexSession("t", MemoryStorage(), algorithm=FIFOAlgorithm(max_messages=3)), [MEETING])
    hits = await session.history.search_messages("Nothing")
    assert hits[0].message.items == [said("Nothing")]
    assert "Hello" not in json.dumps(await session.get_items())
    assert (await session.history.explain("t")).thread_id == "t"


def test_a_manager_brings_its_algorithm() -> None:
    manager = HistoryManager(MemoryStorage(), FIFOAlgorithm(max_messages=2))
    session = MemexSession("t", manager)
    assert session.history.algorithm is manager.algorithm
    assert session.history.storage is manager.storage
    with pytest.raises(ConfigurationError, match="either a manager"):
        MemexSession("t", manager, algorithm=FIFOAlgorithm(max_messages=2))


@pytest.mark.parametrize("session_id", ["", None, 7])
def test_an_id_that_names_no_thread_is_refused(session_id: Any) -> None:
    with pytest.raises(ValidationError):
        MemexSession(session_id, MemoryStorage())


@pytest.mark.parametrize("limit", [-1, 1.5, "2"])
async def test_a_limit_that_is_no_count_is_refused(limit: Any) -> None:
    with pytest.raises(ValidationError, match="limit"):
        await MemexSession("t", MemoryStorage()).get_items(limit)


@pytest.mark.parametrize("items", ["Hello", {"role": "user", "content": "Hello"}, ["Hello"], [{"n": float("nan")}]])
async def test_what_is_no_list_of_items_is_refused_and_nothing_stored(items: Any) -> None:
    session = MemexSession("t", MemoryStorage())
    with pytest.raises(ValidationError):
        await filled(session, [[user("Hi"), *items] if isinstance(items, list) else items])
    assert await session.get_items() == []


async def test_a_storage_that_fails_says_so() -> None:
    class Failing(LiveDictStorage):
        def get_thread(self, thread_id: str) -> Any:
            raise OSError("disk on fire")

    session = MemexSession("t", Failing())
    with pytest.raises(StorageError, match="disk on fire"):
        await session.get_items()


def test_a_session_shows_nothing_that_was_said() -> None:
    assert repr(MemexSession("t", MemoryStorage())).startswith("MemexSession('t', AsyncHistoryManager(")


def test_the_session_needs_neither_sdk_until_it_is_used_by_one() -> None:
    code = (
        "import sys; from memexllm.integrations.openai_agents import MemexSession, Session; "
        "assert Session is MemexSession; MemexSession('t', 'memory:'); "
        "print(*{'agents', 'openai'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("", "")
