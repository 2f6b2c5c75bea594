"""What is particular to Redis: keys, expiry, formats, lost answers, clients handed in, entries that are behind."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import fakeredis
import pytest
import redis
import redis.asyncio
from redis.crc import key_slot

from memexllm import AsyncHistoryManager
from memexllm.core.errors import (
    ConcurrencyError,
    ConfigurationError,
    ConnectionError,
    CorruptThreadError,
    OperationError,
    StorageError,
    ThreadNotFoundError,
    ValidationError,
)
from memexllm.core.models import Message, Thread
from memexllm.storage import AsyncRedisStorage, RedisStorage, storage_from_url
from memexllm.storage._redis_keys import Keys, name_of
from memexllm.testing._laws_apart import HOSTILE
from tests.cluster import Cluster
from tests.storage.losing import Losing, losing

PATIENCE_S = 20.0


@pytest.fixture
def prefix() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def client(redis_server: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_server) as client:
        yield client


@pytest.fixture
def storage(redis_server: str, prefix: str, client: Any) -> Iterator[RedisStorage]:
    with RedisStorage(redis_server, prefix=prefix) as storage:
        yield storage
    for key in client.scan_iter(match=f"*{prefix}*", count=1000):
        client.delete(key)


def say(*texts: str, **fields: Any) -> list[Message]:
    return [Message(text, "user", **fields) for text in texts]


def keys_of(client: Any, prefix: str) -> set[bytes]:
    return set(client.scan_iter(match=f"*{prefix}*", count=1000))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it has not come to pass"


# Keys.


def test_all_keys_of_a_thread_lie_in_one_slot_whatever_its_id(storage: RedisStorage, client: Any, prefix: str) -> None:
    index = Keys(prefix).index
    slots: set[int] = set()
    before: set[bytes] = set()
    for thread_id in HOSTILE[:-1]:
        if thread_id != "\ud83d":
            storage.append_messages(thread_id, say("a", "b", metadata={"n": 1}), create={}, state={"k": 1})
            storage.append_messages(thread_id, [], supersede=[0])
            found = {key for key in keys_of(client, prefix) - before if not key.startswith(index)}
            parts = [key.rpartition(b"}:")[2].partition(b":")[0] for key in found]
            assert sorted(parts) == [b"dead", b"done", b"done", b"extra", b"head", b"live", b"state"]
            assert len({key_slot(key) for key in found}) == 1
            slots |= {key_slot(key) for key in found}
            before |= found
    assert len(slots) > len(HOSTILE) / 2


def test_names_of_ids_are_told_apart_and_short() -> None:
    ids = [each for each in HOSTILE if each != "\ud83d"]
    ids += ["%3A", ":", "=", "#", "x" * 10_001, "thread:x", "a:thread", "index"]
    names = [name_of(each) for each in ids]
    assert len(set(names)) == len(ids)
    assert max(map(len, names)) <= 201
    assert not any(set(name) & set("{}:\n") for name in names)


def test_two_prefixes_never_meet(redis_server: str, prefix: str, client: Any) -> None:
    prefixes = [prefix, f"{prefix}:thread", f"{prefix}:index", f"{prefix}:thread:index", f"{prefix}:"]
    storages = [RedisStorage(redis_server, prefix=each) for each in prefixes]
    ids = ("index", "thread:x", "x", "", ":", "thread", "=index")
    for number, storage in enumerate(storages):
        for thread_id in ids:
            storage.append_messages(thread_id, say(f"{number} {thread_id}"), create={"user_id": "ann"})
    for number, storage in enumerate(storages):
        assert [thread.id for thread in storage.list_threads(user_id="ann")] == list(ids)
        for thread_id in ids:
            assert [each.text for each in storage.read_messages(thread_id)] == [f"{number} {thread_id}"]
            assert storage.delete_thread(thread_id)
    for storage in storages:
        storage.close()
    for key in keys_of(client, prefix):
        client.delete(key)


@pytest.mark.parametrize("wrong", [None, 5, b"x"], ids=repr)
def test_an_id_that_is_no_text_is_refused(wrong: Any) -> None:
    storage = RedisStorage(client=fakeredis.FakeRedis())
    for use in (storage.get_thread, storage.delete_thread, storage.read_messages):
        with pytest.raises(ValidationError, match="must be a string"):
            use(wrong)


@pytest.mark.parametrize("wrong", ["", "a{b", "a}b", "{}", "\ud83d", None, 5, b"x"], ids=ascii)
def test_a_prefix_that_would_break_the_hash_tag_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="prefix"):
        RedisStorage(prefix=wrong)


def test_deleting_a_thread_leaves_nothing_of_what_was_said(storage: RedisStorage, client: Any, prefix: str) -> None:
    storage.append_messages("keep", say("a"), create={})
    storage.append_messages("t", say("b", metadata={"k": 1}), create={"user_id": "ann"}, state={"k": 1})
    storage.append_messages("t", say("c"), supersede_from=0)
    storage.delete_thread("t")
    left = keys_of(client, prefix)
    of_t = {key for key in left if b"=t}" in key}
    assert all(b":done:" in key and client.ttl(key) > 0 for key in of_t)
    assert {key.rpartition(b"}")[2] for key in left if b":index}" in key} == {
        b":format",
        b":places",
        b":entries",
        b":created",
        b":updated",
    }


# Formats.


def test_a_newer_format_is_refused_and_nothing_changed(storage: RedisStorage, client: Any, prefix: str) -> None:
    storage.append_messages("t", say("a"), create={})
    client.set(f"{{{prefix}:index}}:format", 99)
    before = {key: client.dump(key) for key in keys_of(client, prefix)}
    for other in (storage, RedisStorage(prefix=prefix, client=client)):
        uses: list[Callable[[], Any]] = [
            lambda other=other: other.append_messages("new", say("b"), create={}),  # type: ignore[misc]  # bound now
            lambda other=other: other.save_thread(Thread("t")),  # type: ignore[misc]
            lambda other=other: other.patch_thread("t", title="x"),  # type: ignore[misc]
            lambda other=other: other.delete_thread("t"),  # type: ignore[misc]
            lambda other=other: other.list_threads(),  # type: ignore[misc]
        ]
        if other is not storage:
            # These look from time to time, and the other storage has just looked.
            uses = [
                lambda other=other: other.append_messages("t", say("b")),  # type: ignore[misc]
                lambda other=other: other.read_messages("t"),  # type: ignore[misc]
                lambda other=other: other.read_messages("t", limit=1, wire=True),  # type: ignore[misc]
                lambda other=other: other.get_thread("t"),  # type: ignore[misc]
                *uses,
            ]
        for use in uses:
            with pytest.raises(StorageError, match=r"format '99'.*upgrade memexllm"):
                use()
    assert {key: client.dump(key) for key in keys_of(client, prefix)} == before


def test_a_thread_of_a_newer_format_is_refused_and_nothing_changed(
    storage: RedisStorage, client: Any, prefix: str
) -> None:
    message = say("a")[0]
    storage.append_messages("t", [message], create={})
    client.hset(f"{{{prefix}:thread:=t}}:head", "format", 2)
    before = {key: client.dump(key) for key in keys_of(client, prefix)}
    uses: list[Callable[[], Any]] = [
        lambda: storage.append_messages("t", say("b")),
        lambda: storage.replace_message("t", message.id, message),
        lambda: storage.save_thread(Thread("t")),
        lambda: storage.patch_thread("t", title="x"),
        lambda: storage.delete_thread("t"),
        lambda: storage.read_messages("t"),
        lambda: storage.read_head("t"),
    ]
    for use in uses:
        with pytest.raises(StorageError, match="format '2'"):
            use()
    assert {key: client.dump(key) for key in keys_of(client, prefix)} == before


# Expiry and eviction.


def test_a_thread_expires_whole_and_is_in_no_list(redis_server: str, prefix: str, client: Any) -> None:
    lasting = RedisStorage(redis_server, prefix=prefix)
    brief = RedisStorage(redis_server, prefix=prefix, ttl=timedelta(milliseconds=200))
    for number in range(4):
        kept = lasting if number % 2 else brief
        create = {"user_id": "ann", "metadata": {"k": 1}}
        kept.append_messages(f"t{number}", say("a", metadata={"k": 1}), create=create, state={"k": 1})
    until(lambda: brief.read_head("t0") is None and brief.read_head("t2") is None)
    for asked in ({}, {"user_id": "ann"}, {"order_by": "-updated"}, {"metadata": {"k": 1}}):
        assert sorted(thread.id for thread in lasting.list_threads(**asked)) == ["t1", "t3"]
    assert [thread.id for thread in lasting.list_threads(1, 1)] == ["t3"]
    assert not [key for key in keys_of(client, prefix) if b"=t0}" in key and b":done:" not in key]
    assert not client.zcard(f"{{{prefix}:index}}:expires")
    brief.append_messages("t0", say("anew"), create={})
    assert [each.text for each in brief.read_messages("t0")] == ["anew"]
    assert [thread.id for thread in lasting.list_threads()] == ["t1", "t3", "t0"]
    lasting.close()
    brief.close()


def test_every_write_puts_the_expiry_off_and_reads_do_not(redis_server: str, prefix: str, client: Any) -> None:
    storage = RedisStorage(redis_server, prefix=prefix, ttl=1000)
    (message,) = say("a", metadata={"k": 1})
    storage.append_messages("t", [message], create={}, state={"k": 1})
    parts = [f"{{{prefix}:thread:=t}}:{part}" for part in ("head", "state", "live", "extra")]
    writes: list[Callable[[], Any]] = [
        lambda: storage.append_messages("t", say("b")),
        lambda: storage.replace_message("t", message.id, message),
        lambda: storage.patch_thread("t", title="x"),
        lambda: storage.patch_thread("t", state={"k": 2}),
        lambda: storage.save_thread(storage.get_thread("t") or Thread("t")),
    ]
    for write in writes:
        for part in parts:
            client.pexpire(part, 500_000)
        storage.read_messages("t")
        storage.list_threads()
        assert max(client.pttl(part) for part in parts) <= 500_000
        write()
        assert min(client.pttl(part) for part in parts) > 900_000
    with RedisStorage(redis_server, prefix=prefix) as lasting:
        lasting.append_messages("t", say("c"), supersede=[0])
        assert client.pttl(f"{{{prefix}:thread:=t}}:dead") > 0
    storage.delete_thread("t")
    storage.close()


@pytest.mark.parametrize("wrong", [0, -1, "5", True, float("nan"), 1e300, timedelta(0)], ids=str)
def test_a_ttl_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="ttl"):
        RedisStorage(ttl=wrong)


@pytest.mark.parametrize("part", ["state", "live", "dead", "extra"])
def test_a_part_that_was_evicted_is_missed_and_nothing_is_overwritten(
    storage: RedisStorage, client: Any, prefix: str, part: str
) -> None:
    storage.append_messages("t", say("a", "b", metadata={"k": 1}), create={}, state={"k": 1})
    storage.append_messages("t", say("c"), supersede=[0])
    client.delete(f"{{{prefix}:thread:=t}}:{part}")
    before = {key: client.dump(key) for key in keys_of(client, prefix)}
    uses: list[Callable[[], Any]] = [
        lambda: storage.read_messages("t"),
        lambda: storage.get_thread("t"),
        lambda: storage.read_head("t"),
        lambda: storage.patch_thread("t", title="x"),
    ]
    if part == "live":
        uses += [lambda: storage.append_messages("t", say("d")), lambda: storage.read_messages("t", limit=5, wire=True)]
    for use in uses:
        with pytest.raises(CorruptThreadError, match="evicted"):
            use()
    assert {key: client.dump(key) for key in keys_of(client, prefix)} == before
    if part != "live":
        # A question and its answer are stored all the same, and do not hide what is missing.
        storage.append_messages("t", say("d", metadata={"k": 1}), supersede_from=1, state={"l": 1})
        with pytest.raises(CorruptThreadError, match="evicted"):
            storage.get_thread("t")


def test_a_thread_whose_head_is_gone_is_unknown_and_leaves_the_lists(
    storage: RedisStorage, client: Any, prefix: str
) -> None:
    for name in ("s", "t", "u"):
        storage.append_messages(name, say("old"), create={"user_id": "ann"})
    client.delete(f"{{{prefix}:thread:=t}}:head")
    assert storage.read_messages("t") == []
    assert [each.id for each in storage.list_threads(1, 1, order_by="-updated", user_id="ann")] == ["s"]
    assert client.zcard(f"{{{prefix}:index}}:created") == 2
    storage.append_messages("t", say("new"), create={})
    assert [each.text for each in storage.read_messages("t")] == ["new"]


# Lost answers.


@pytest.fixture
def lossy(redis_server: str) -> Iterator[Losing]:
    with losing(urlsplit(redis_server).path) as found:
        yield found


def test_a_write_whose_answer_is_lost_is_done_once(lossy: Losing, prefix: str, storage: RedisStorage) -> None:
    (first,) = say("first")
    storage.append_messages("t", [first], create={})
    with RedisStorage(f"redis://127.0.0.1:{lossy.port}", prefix=prefix) as unlucky:
        unlucky.read_head("t")

        def lose(n_answers: int = 1) -> None:
            assert lossy.n_answers == 0
            lossy.n_answers = n_answers

        lose()
        assert unlucky.append_messages("t", say("second"), expected_version=1, state={"k": 1}) == 2
        lose(3)
        unlucky.replace_message("t", first.id, Message("FIRST", "user", id=first.id), expected_version=2)
        lose()
        unlucky.patch_thread("t", title="x")
        lose()
        assert unlucky.append_messages("new", say("n"), create={"user_id": "ann"}, expected_version=0) == 1
        lose()
        assert unlucky.delete_thread("new") is True
        head = storage.read_head("t")
        assert head is not None
        lose()
        unlucky.restore_messages(head.changed(version=9), [Message("third", "user", seq=7)])
        assert lossy.n_lost == 8
    thread = storage.get_thread("t")
    assert thread is not None
    assert [each.text for each in thread.messages] == ["FIRST", "second", "third"]
    assert (thread.version, thread.state) == (9, {"k": 1})


async def test_an_asynchronous_write_whose_answer_is_lost_is_done_once(
    lossy: Losing, prefix: str, storage: RedisStorage
) -> None:
    async with AsyncRedisStorage(f"redis://127.0.0.1:{lossy.port}", prefix=prefix) as unlucky:
        await unlucky.append_messages("t", [], create={})
        lossy.n_answers = 5
        await asyncio.gather(*(unlucky.append_messages("t", say(str(number))) for number in range(10)))
    assert lossy.n_lost == 5
    assert sorted(each.text for each in storage.read_messages("t")) == [str(number) for number in range(10)]


def test_a_refusal_whose_answer_is_lost_stays_one(lossy: Losing, prefix: str, storage: RedisStorage) -> None:
    storage.append_messages("t", say("a"), create={})
    with RedisStorage(f"redis://127.0.0.1:{lossy.port}", prefix=prefix) as unlucky:
        unlucky.read_head("t")
        lossy.n_answers = 1
        with pytest.raises(ConcurrencyError):
            unlucky.append_messages("t", say("b"), expected_version=5)
    assert len(storage.read_messages("t")) == 1


def test_scripts_a_server_has_forgotten_are_sent_again(storage: RedisStorage, client: Any) -> None:
    storage.append_messages("t", say("a"), create={})
    client.script_flush()
    storage.append_messages("t", say("b"))
    client.script_flush()
    assert [each.text for each in storage.read_messages("t")] == ["a", "b"]


# Forks.


def test_a_long_fork_is_copied_in_parts_while_the_parent_goes_on(redis_server: str, storage: RedisStorage) -> None:
    messages = [Message(str(n), "user", metadata={"n": n}, superseded=n % 7 == 1) for n in range(1300)]
    storage.save_thread(Thread("t", messages=messages, user_id="ann"))
    stop = threading.Event()

    def go_on() -> None:
        number = 0
        while not stop.is_set():
            storage.append_messages("t", say(f"more {number}"), supersede=[number] if number < 4 else ())
            number += 1

    with ThreadPoolExecutor() as pool:
        going = pool.submit(go_on)
        try:
            forks = [storage.fork_thread("t", f"f{number}", at=messages[1250].id) for number in range(5)]
        finally:
            stop.set()
        going.result()
    for fork in forks:
        found = storage.get_thread(fork.id)
        assert found is not None
        assert [each.id for each in found.messages] == [each.id for each in messages[:1251]]
        assert [each.metadata for each in found.messages] == [each.metadata for each in messages[:1251]]
        dead = [each.seq for each in found.messages if each.superseded and (each.seq or 0) % 7 != 1]
        assert dead == [0, 2, 3][: len(dead)]
        assert found.message_count == sum(not each.superseded for each in found.messages)


# Errors.


def test_a_server_that_is_not_there_is_a_connection_error_at_once() -> None:
    storage = RedisStorage("redis://ann:p%40ss@127.0.0.1:1/0?socket_timeout=1")
    assert "p%40ss" not in repr(storage)
    begun = time.monotonic()
    with pytest.raises(ConnectionError) as caught:
        storage.append_messages("t", say("secret"), create={})
    assert time.monotonic() - begun < 5
    for said in (str(caught.value), repr(caught.value)):
        assert not any(word in said for word in ("p%40ss", "p@ss", "secret"))


def test_what_the_server_refuses_is_an_operation_error_without_content(
    storage: RedisStorage, client: Any, prefix: str
) -> None:
    storage.append_messages("t", say("a"), create={})
    key = f"{{{prefix}:thread:=t}}:live"
    client.delete(key)
    client.set(key, "another type")
    with pytest.raises(OperationError, match="WRONGTYPE") as caught:
        storage.append_messages("t", say("a secret"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["localhost:6379", "http://x", "", 5, "redis://x:y/0", "redis+cluster://x:y"], ids=str)
def test_a_url_that_is_none_is_refused(url: Any) -> None:
    with pytest.raises(ConfigurationError):
        RedisStorage(url)


async def test_a_url_names_the_class(redis_server: str) -> None:
    assert type(storage_from_url(redis_server)) is RedisStorage
    assert type(storage_from_url(redis_server, asynchronous=True)) is AsyncRedisStorage
    with storage_from_url(redis_server) as storage:
        assert storage.get_thread(uuid.uuid4().hex) is None


# Clients handed in.


@pytest.mark.parametrize("decode", [True, False])
def test_a_client_handed_in_is_used_and_never_closed(redis_server: str, prefix: str, decode: bool) -> None:
    with redis.Redis.from_url(redis_server, decode_responses=decode, single_connection_client=False) as client:
        with RedisStorage(client=client, prefix=prefix) as storage:
            storage.append_messages("ü", say("größer"), create={"metadata": {"k": 2**60}}, state={"e": []})
            storage.append_messages("ü", say("x"), supersede_from=0)
            assert [each.text for each in storage.read_messages("ü", include_superseded=True)] == ["größer", "x"]
            (listed,) = storage.list_threads(preview=True)
            assert (listed.metadata, listed.state, listed.preview) == ({"k": 2**60}, {"e": []}, "x")
            n_connections = len(client.connection_pool._available_connections)
        assert len(client.connection_pool._available_connections) == n_connections > 0
        storage.delete_thread("ü")


@pytest.mark.parametrize("decode", [True, False])
async def test_an_asynchronous_client_handed_in_is_used_and_never_closed(
    redis_server: str, prefix: str, decode: bool
) -> None:
    async with redis.asyncio.Redis.from_url(redis_server, decode_responses=decode) as client:
        async with AsyncRedisStorage(client=client, prefix=prefix) as storage:
            await storage.append_messages("t", say("größer"), create={})
            assert [each.text for each in await storage.read_messages("t")] == ["größer"]
        assert await client.ping()
        await storage.delete_thread("t")


@pytest.mark.parametrize("decode", [True, False])
def test_fakeredis_is_taken_for_a_server(decode: bool) -> None:
    storage = RedisStorage(client=fakeredis.FakeRedis(decode_responses=decode), ttl=100)
    (message,) = say("a", metadata={"k": 1})
    storage.append_messages("t", [message], create={"user_id": "ann"}, state={"cut": {"$new": 0}})
    storage.append_messages("t", say("b"), supersede=[0], counts={0: (3, "e")})
    storage.replace_message("t", message.id, Message("A", "user", id=message.id, superseded=True))
    storage.patch_thread("t", title="x", user_id="bob")
    thread = storage.get_thread("t")
    assert thread is not None
    assert [(each.text, each.superseded) for each in thread.messages] == [("A", True), ("b", False)]
    assert (thread.state, thread.title) == ({"cut": 0}, "x")
    assert [each.id for each in storage.list_threads(user_id="bob", order_by="-updated", preview=True)] == ["t"]
    assert storage.list_threads(user_id="ann") == []
    with pytest.raises(ThreadNotFoundError):
        storage.append_messages("u", say("x"))
    storage.save_thread(Thread("u", messages=say("x")))
    assert storage.delete_thread("t")
    assert [each.id for each in storage.list_threads()] == ["u"]


def test_a_client_of_the_other_kind_is_refused() -> None:
    for wrong in (redis.asyncio.Redis(), object(), "redis://localhost"):
        with pytest.raises(ConfigurationError):
            RedisStorage(client=wrong)
    with pytest.raises(ConfigurationError, match=r"redis\.asyncio"):
        AsyncRedisStorage(client=redis.Redis())
    with pytest.raises(ConfigurationError, match="not both"):
        RedisStorage("redis://localhost", client=redis.Redis())


# Many at once, and much at once.


async def test_five_hundred_tasks_share_a_few_connections(redis_server: str, prefix: str, client: Any) -> None:
    async with AsyncRedisStorage(redis_server, prefix=prefix, max_connections=8) as storage:
        manager = AsyncHistoryManager(storage)
        before = len(client.client_list())

        async def talk(number: int) -> str:
            thread_id = f"t{number % 50}"
            await storage.append_messages(thread_id, say(str(number)), create={})
            return (await manager.get_messages(thread_id))[-1].text

        await asyncio.gather(*map(talk, range(500)))
        assert len(client.client_list()) <= before + 8
        found = [len(await storage.read_messages(f"t{number}")) for number in range(50)]
        assert found == [10] * 50
        for number in range(50):
            await storage.delete_thread(f"t{number}")


def test_a_long_thread_is_saved_in_parts_and_read_whole(storage: RedisStorage, client: Any, prefix: str) -> None:
    messages = [Message(str(n), "user", metadata={"n": n}, superseded=n % 7 == 0) for n in range(1203)]
    thread = Thread("t", messages=messages, state={"cut": 5})
    for _ in range(2):
        storage.save_thread(thread)
        found = storage.get_thread("t")
        assert found is not None
        assert found.messages == messages
        assert not [key for key in keys_of(client, prefix) if b"staged" in key]
        assert client.ttl(f"{{{prefix}:thread:=t}}:live") == -1
    assert [each.text for each in storage.read_messages("t", limit=3)] == ["1200", "1201", "1202"]


def test_a_row_whose_id_does_not_come_first_is_replaced(storage: RedisStorage) -> None:
    row: Any = {"wire": {"role": "user", "content": '"id":"m1","seq":7,'}, "created_at": 1, "id": "m0"}
    storage.append_messages("t", [row, *say("b", id="m1")], create={}, counts={})
    storage.append_messages("t", [], counts={0: (1, '","seq":9'), 1: (2, "e")})
    storage.replace_message("t", "m1", Message("B", "user", id="m1"))
    storage.replace_message("t", "m0", Message("A", "user", id="m0"))
    assert [each.text for each in storage.read_messages("t")] == ["A", "B"]


def test_the_newest_of_equal_ids_is_replaced(storage: RedisStorage) -> None:
    storage.append_messages("t", say("a", "b", "c", id="m"), create={})
    storage.append_messages("t", say("d"), supersede=[2])
    storage.replace_message("t", "m", Message("C", "user", id="m"))
    assert [each.text for each in storage.read_messages("t", include_superseded=True)] == ["a", "b", "C", "d"]
    assert [each.text for each in storage.read_messages("t")] == ["a", "b", "C", "d"]


def test_many_threads_of_one_moment_are_paged_exactly(storage: RedisStorage) -> None:
    moment = datetime(2025, 1, 1, tzinfo=UTC)
    for number in range(60):
        storage.save_thread(Thread(f"t{number:02}", updated_at=moment))
    for order_by, expected in (("updated", range(60)), ("-updated", range(59, -1, -1))):
        found: list[str] = []
        after: Any = None
        while page := storage.list_threads(7, order_by=order_by, after=after):  # type: ignore[arg-type]
            found += [each.id for each in page]
            after = page[-1]
        assert found == [f"t{number:02}" for number in expected]


# A client that dies between the lists and the thread, on a cluster.


class DyingClient(redis.RedisCluster):
    """Dies before the script that is its `lives`-th from now."""

    lives = -1

    def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        if args[0] == "EVALSHA":
            self.lives -= 1
            if self.lives == 0:
                raise SystemExit("killed")
        return super().execute_command(*args, **kwargs)  # type: ignore[no-untyped-call]  # as redis-py has it


def test_a_client_that_dies_between_list_and_thread_leaves_lists_that_come_right(
    redis_cluster: Cluster, prefix: str
) -> None:
    port = redis_cluster.masters[0]
    old = datetime(2025, 1, 1, tzinfo=UTC)
    with (
        RedisStorage(redis_cluster.url, prefix=prefix) as storage,
        DyingClient(host="127.0.0.1", port=port) as dying,
        redis.RedisCluster(host="127.0.0.1", port=port) as client,
    ):
        for number, name in enumerate(("a", "b", "c")):
            moment = old + timedelta(days=number)
            storage.save_thread(Thread(name, user_id="ann", messages=say("x"), updated_at=moment))
        unlucky = RedisStorage(client=dying, prefix=prefix)
        unlucky.read_head("a")
        interrupted: list[Callable[[], Any]] = [
            lambda: unlucky.append_messages("a", say("y")),
            lambda: unlucky.append_messages("new", say("y"), create={"user_id": "ann"}),
            lambda: unlucky.patch_thread("b", user_id="bob"),
        ]
        for write in interrupted:
            dying.lives = 2
            with pytest.raises(SystemExit):
                write()
        # What was not written is nowhere; what a write in flight may still explain stands where that would put it.
        assert [len(storage.read_messages(name)) for name in ("a", "b", "new")] == [1, 1, 0]
        assert {each.id for each in storage.list_threads(order_by="-updated")} == {"a", "b", "c"}
        # A minute later nothing is in flight.
        index = f"{{{prefix}:index}}"
        hour_ago = (datetime.now(UTC) - timedelta(hours=1)).timestamp() * 1e6
        for members in (f"{index}:updated", f"{index}:user:=ann:updated"):
            for member, score in client.zrange(members, 0, -1, withscores=True):
                if score > hour_ago:
                    client.zadd(members, {member: int(hour_ago)})
        everyone: dict[str, Any] = {}
        for asked in (everyone, {"user_id": "ann"}):
            assert [each.id for each in storage.list_threads(order_by="-updated", **asked)] == ["c", "b", "a"]
            assert [each.id for each in storage.list_threads(order_by="updated", **asked)] == ["a", "b", "c"]
            assert [each.id for each in storage.list_threads(**asked)] == ["a", "b", "c"]
        assert client.zcard(f"{index}:updated") == client.hlen(f"{index}:entries") == 3
        # Dying after the thread was deleted, before the lists know.
        dying.lives = 2
        with pytest.raises(SystemExit):
            unlucky.delete_thread("b")
        assert [each.id for each in storage.list_threads()] == ["a", "c"]
        assert client.zcard(f"{index}:updated") == 2


def test_a_refused_write_on_a_cluster_leaves_the_lists_as_they_were(redis_cluster: Cluster, prefix: str) -> None:
    with RedisStorage(redis_cluster.url, prefix=prefix) as storage:
        for name in ("a", "b"):
            storage.append_messages(name, say("x"), create={"user_id": "ann"})
        refused: list[Callable[[], Any]] = [
            lambda: storage.append_messages("a", say("y"), expected_version=7),
            lambda: storage.append_messages("a", say("y"), create={"user_id": "bob"}),
            lambda: storage.append_messages("new", say("y"), create={}, expected_version=7),
            lambda: storage.append_messages("new", say("y")),
            lambda: storage.replace_message("a", "nobody", say("y")[0]),
        ]
        for write in refused:
            with pytest.raises((ConcurrencyError, LookupError)):
                write()
            assert [each.id for each in storage.list_threads(order_by="-updated")] == ["b", "a"]
        with redis.RedisCluster(host="127.0.0.1", port=redis_cluster.masters[0]) as client:
            assert client.hlen(f"{{{prefix}:index}}:entries") == 2
            scores = dict(client.zrange(f"{{{prefix}:index}}:updated", 0, -1, withscores=True))
        heads = {each.id: each.updated_at for each in storage.list_threads()}
        assert [datetime.fromtimestamp(score / 1e6, UTC) for score in scores.values()] == list(heads.values())


def test_a_thread_that_expired_on_a_cluster_begins_anew(redis_cluster: Cluster, prefix: str) -> None:
    with (
        RedisStorage(redis_cluster.url, prefix=prefix, ttl=0.2) as brief,
        RedisStorage(redis_cluster.url, prefix=prefix) as lasting,
    ):
        brief.append_messages("a", say("x"), create={"user_id": "ann"})
        lasting.append_messages("b", say("x"), create={"user_id": "ann"})
        until(lambda: brief.read_head("a") is None)
        assert [each.id for each in lasting.list_threads(1, user_id="ann")] == ["b"]
        lasting.append_messages("a", say("y"), create={"user_id": "bob"})
        assert [each.id for each in lasting.list_threads()] == ["b", "a"]
        assert [each.id for each in lasting.list_threads(user_id="bob")] == ["a"]


def test_a_client_of_a_cluster_can_be_handed_in(redis_cluster: Cluster, prefix: str) -> None:
    for decode in (True, False):
        with redis.RedisCluster(host="127.0.0.1", port=redis_cluster.masters[1], decode_responses=decode) as client:
            storage = RedisStorage(client=client, prefix=prefix)
            storage.append_messages("t", say("ü"), create={})
            (listed,) = storage.list_threads(preview=True)
            assert (listed.preview, listed.message_count) == ("ü", 1)
            assert storage.delete_thread("t")
            storage.close()
            assert client.ping()


async def test_many_who_come_first_to_a_cluster_at_once_are_all_answered(redis_cluster: Cluster, prefix: str) -> None:
    async with AsyncRedisStorage(redis_cluster.url, prefix=prefix) as storage:
        versions = await asyncio.gather(*(storage.append_messages("t", [], create={}) for _ in range(20)))
        assert sorted(versions) == list(range(1, 21))
