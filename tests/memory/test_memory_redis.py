"""RedisVectorDatabase: what lies on the server, older servers, settings, and searches of many records."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import redis
import redis.asyncio

from memexllm import AsyncMemoryManager, MemoryManager
from memexllm.core.errors import (
    ConfigurationError,
    DimensionMismatchError,
    FactoryRuntimeError,
    IntegrityError,
    NotSupportedError,
    ProviderError,
    StorageError,
    ValidationError,
)
from memexllm.core.flow import run
from memexllm.memory import (
    AsyncRedisVectorDatabase,
    InMemoryVectorDatabase,
    MemoryRecord,
    RedisVectorDatabase,
    create_redis_memory_vector_db,
)
from memexllm.memory.embeddings import CallableEmbeddings, HashingEmbeddings
from memexllm.storage import RedisStorage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.memory.redis8 import Redis8

WORDS = ("tea", "bread", "dog", "tide", "salt", "lamp")
SETTINGS = ("REDIS_URL", "REDISVL_DISTANCE_METRIC", "REDISVL_VECTOR_DIMENSIONS", "REDISVL_INDEX_NAME")
FACTORY = "memexllm.memory_vector_db_factory.create_redis_memory_vector_db"


@pytest.fixture
def opened(redis8: Redis8, prefix: str) -> Iterator[Any]:
    """A function that opens the database of this test."""
    made: list[RedisVectorDatabase] = []

    def open_it(n_numbers: int = 32, **options: Any) -> RedisVectorDatabase:
        options = {"embeddings": HashingEmbeddings(n_numbers), "prefix": prefix, **options}
        made.append(RedisVectorDatabase(**redis8.place(), **options))
        return made[-1]

    yield open_it
    for database in made:
        asyncio.run(database.close())


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*SETTINGS, "MEMORY_VECTOR_DB_FACTORY"):
        monkeypatch.delenv(name, raising=False)


# Searches.


def found(database: Any, **asked: Any) -> tuple[int, list[str], list[float]]:
    results = run(database.searching("tea bread", **asked))
    scores = [record.score for record in results]
    assert scores == sorted(scores, reverse=True)
    return results.total, sorted(record.text for record in results), scores


@pytest.mark.parametrize("exact_up_to", [10_000, 0])
def test_it_finds_and_lists_what_one_in_memory_does(opened: Any, exact_up_to: int) -> None:
    """Adds, updates and deletes; every search answers as a database that compares all vectors."""
    rng = random.Random(exact_up_to)
    database, model = opened(exact_up_to=exact_up_to), InMemoryVectorDatabase(HashingEmbeddings(32))
    known: list[MemoryRecord] = []
    for step in range(40):
        action, text = rng.random(), f"{' '.join(rng.choices(WORDS, k=3))} {step}"
        if action < 0.6 or not known:
            user_id, kind = rng.choice(["ada", None]), rng.choice(["fact", "document"])
            known.append(MemoryRecord(text, user_id=user_id, kind=kind, metadata={"n": step % 3}))
            work: tuple[str, list[Any]] = ("adding", [known[-1]])
        elif action < 0.8:
            known.append(known.pop(rng.randrange(len(known))).changed(text=text, kind="fact", agent_id="a"))
            work = ("updating", [known[-1]])
        else:
            work = ("deleting", [known.pop(rng.randrange(len(known))).id])
        for each in (database, model):
            run(getattr(each, work[0])(work[1]))
        wishes: list[dict[str, Any]] = [
            {"user_id": "ada"},
            {"user_id": {"eq": None}, "kind": "fact"},
            {"kind": "fact", "agent_id": {"eq": None}},
            {"metadata": {"n": 1}, "min_score": 0.2},
            {"min_score": 0.3},
        ]
        asked = rng.choice(wishes)
        total, texts, scores = found(database, limit=1000, **asked)
        expected = found(model, limit=1000, **asked)
        assert (total, texts) == expected[:2]
        assert scores == pytest.approx(expected[2], abs=1e-6)
        asked.pop("min_score", None)
        assert run(database.listing(limit=7, offset=2, **asked)) == run(model.listing(limit=7, offset=2, **asked))
        assert run(database.counting(**asked)) == run(model.counting(**asked))


@pytest.fixture
def many(opened: Any) -> list[Any]:
    """1,100 records with vectors of their own, many alike, in a database and in one in memory."""
    rng = np.random.default_rng(1)
    vectors = rng.integers(-2, 3, size=(1100, 4)) + 0.25
    embeddings = CallableEmbeddings(lambda text: [1.0, 1.0, 0.5, 0.25])
    databases = [opened(embeddings=embeddings), InMemoryVectorDatabase(embeddings)]
    records = [
        MemoryRecord(f"{n}", id=f"{n}", user_id="ada", metadata={"n": n}, embedding=vector)
        for n, vector in enumerate(vectors)
    ]
    for database in databases:
        run(database.adding(records))
    return databases


def test_of_many_that_match_the_nearest_are_found(many: list[Any]) -> None:
    most: dict[str, Any] = {"metadata": {"n": {"gte": 40}}}
    few: dict[str, Any] = {"metadata": {"n": {"lt": 40}}}
    for asked in (
        {**most, "limit": 10},
        {**most, "limit": 30, "offset": 900},
        {**most, "min_score": 0.9, "limit": 5000},
        {**most, "user_id": "ada", "min_score": -1.0, "limit": 2, "offset": 1059},
        {**few, "limit": 5},
        {"user_id": "ada", "limit": 10, "offset": 50},
        {"min_score": 0.5, "limit": 3},
        {"limit": 1 << 60, "offset": 1 << 60},
        {**few, "limit": 1 << 60},
    ):
        mine, its = (run(database.searching("q", **asked)) for database in many)
        assert (mine.total, mine.next_offset) == (its.total, its.next_offset)
        assert [record.score for record in mine] == pytest.approx([record.score for record in its], abs=1e-6)
    assert run(many[0].listing(limit=1 << 62, **few)).total == 40
    assert len(run(many[0].listing(limit=1 << 62))) == 1100


def test_a_vector_of_zeros_is_as_near_to_everything_as_to_nothing(opened: Any) -> None:
    database = opened(embeddings=CallableEmbeddings(lambda text: [0.0, 0.0] if text == "zero" else [1.0, 0.0]))
    run(database.adding([MemoryRecord("zero"), MemoryRecord("one")]))
    assert [(each.text, each.score) for each in run(database.searching("query"))] == [("one", 1.0), ("zero", 0.0)]


# What lies on the server.


def test_every_key_lies_in_one_slot_and_none_of_a_record_outlives_it(redis8: Redis8, opened: Any, prefix: str) -> None:
    memory = MemoryManager(opened())
    records = [MemoryRecord(text, user_id=user_id) for text in WORDS for user_id in ("ada", "a:b{c}", None)]
    memory.add_many(records)
    keys = redis8.keys(prefix)
    assert len(keys) > len(records)
    assert all(key.startswith(f"{{{prefix}:records}}:".encode()) for key in keys)
    assert memory.delete_all(user_id="ada") == len(WORDS)
    for record in memory.list():
        memory.delete(record.id)
    left = {key.decode().split("}:")[1].partition(":")[0] for key in redis8.keys(prefix)}
    assert left == {"state", "done"}


def test_a_record_is_a_hash_that_others_can_read(redis8: Redis8, opened: Any, prefix: str) -> None:
    record = MemoryRecord("tea", user_id="ada", thread_id="t", metadata={"n": [1, None]})
    run(opened().adding([record]))
    assert MemoryRecord.from_dict(redis8.client.hgetall(f"{{{prefix}:records}}:record:1")) == record


def test_prefixes_never_meet(redis8: Redis8, opened: Any, prefix: str) -> None:
    prefixes = [prefix, f"{prefix}:records", f"{prefix}:records:state", f"{prefix}*", f"{prefix}:"]
    databases = [opened(prefix=each) for each in prefixes]
    for n, database in enumerate(databases):
        run(database.adding([MemoryRecord(f"tea {n}", id="same", user_id="ada")]))
    threads = RedisStorage(prefix=prefix, **redis8.place())
    threads.append_messages("records", [], create={"user_id": "ada"})
    for n, database in enumerate(databases):
        assert [each.text for each in run(database.searching("tea"))] == [f"tea {n}"]
    run(databases[0].deleting(None))
    assert [run(database.counting()) for database in databases] == [0, 1, 1, 1, 1]
    assert [each.id for each in threads.list_threads(user_id="ada")] == ["records"]
    threads.close()


def test_a_record_that_was_evicted_is_missed(redis8: Redis8, opened: Any, prefix: str) -> None:
    database = opened()
    run(database.adding([MemoryRecord("tea", id="a"), MemoryRecord("my secret", id="b")]))
    redis8.client.delete(f"{{{prefix}:records}}:record:2")
    for flow in (
        database.searching("tea"),
        database.searching("tea", metadata={"n": {"ne": 1}}),
        database.listing(),
        database.getting(["b"]),
        database.updating([MemoryRecord("salt", id="b")]),
        database.deleting(["b"]),
    ):
        with pytest.raises(IntegrityError, match=r"record 2 .* is gone") as caught:
            run(flow)
        assert "secret" not in str(caught.value)
    assert [each.id for each in run(database.listing(limit=1))] == ["a"]


def test_a_newer_format_is_refused_unchanged(redis8: Redis8, opened: Any, prefix: str) -> None:
    database = opened()
    run(database.adding([MemoryRecord("tea")]))
    redis8.client.hset(f"{{{prefix}:records}}:state", "format", "2")
    before = redis8.keys(prefix)
    for flow in (opened().adding([MemoryRecord("bread")]), database.searching("tea"), database.deleting(None)):
        with pytest.raises(StorageError, match=r"format '2'.*upgrade memexllm"):
            run(flow)
    assert redis8.keys(prefix) == before


def test_what_the_server_refuses_is_told_without_what_was_said(redis8: Redis8, opened: Any, prefix: str) -> None:
    redis8.client.set(f"{{{prefix}:records}}:vectors:", "not ours")
    memory = MemoryManager(opened())
    with pytest.raises(ProviderError, match=r"^\[redis\] add failed: .*WRONGTYPE") as caught:
        memory.add("my secret")
    assert "secret" not in str(caught.value)


# Dimensions.


def test_vectors_of_another_length_are_refused_until_all_is_embedded_again(opened: Any) -> None:
    here, there = MemoryManager(opened(32)), MemoryManager(opened(64))
    tea = here.add("tea")
    for attempt in (
        lambda: there.add("bread"),
        lambda: there.search("tea"),
        lambda: there.search("tea", metadata={"n": {"ne": 1}}),
        lambda: there.update(tea.id, text="salt"),
    ):
        with pytest.raises(DimensionMismatchError, match=r"32 dimensions .* gives 64.*reembed"):
            attempt()
    assert [each.text for each in there.list()] == ["tea"]
    assert there.reembed() == 1
    assert there.search("tea")[0].score == pytest.approx(1)
    with pytest.raises(DimensionMismatchError):
        here.search("tea")
    there.delete(tea.id)
    assert here.add("bread").text == "bread"


def test_dimensions_that_were_said_beforehand_are_held(opened: Any) -> None:
    with pytest.raises(DimensionMismatchError, match="dimensions=48 and the embedding provider gives 32"):
        run(opened(32, dimensions=48).adding([MemoryRecord("tea")]))
    for wrong in (0, -1, "32"):
        with pytest.raises(ValidationError, match="dimensions"):
            opened(32, dimensions=wrong)


# Which server, and which client.


@pytest.mark.parametrize("kind", [RedisVectorDatabase, AsyncRedisVectorDatabase])
async def test_an_older_server_is_told_so_at_first_use(redis_server: str, prefix: str, kind: Any) -> None:
    with redis.Redis.from_url(redis_server) as client:
        found = client.info("server")
        if "valkey_version" not in found and int(found["redis_version"].split(".")[0]) >= 8:
            pytest.skip("this server has vector sets")
        name = f"Valkey {found['valkey_version']}" if "valkey_version" in found else f"Redis {found['redis_version']}"
        manager = AsyncMemoryManager(kind(redis_server, HashingEmbeddings(), prefix=prefix))
        for attempt in (
            manager.add("tea"),
            manager.search("tea"),
            manager.list(),
            manager.count(),
            manager.delete("a"),
        ):
            with pytest.raises(NotSupportedError, match=f"from version 8 on; unix://.* is {name}. Use a Redis 8, or"):
                await attempt
        await manager.close()
        assert list(client.scan_iter(match=f"*{prefix}*")) == []


@pytest.mark.parametrize("decode_responses", [True, False])
def test_a_client_handed_in_is_used_and_never_closed(redis8: Redis8, prefix: str, decode_responses: bool) -> None:
    client = redis8.place(decode_responses=decode_responses).get("client") or redis.Redis.from_url(
        str(redis8.url), decode_responses=decode_responses
    )
    with (
        client,
        MemoryManager(RedisVectorDatabase(client=client, embeddings=HashingEmbeddings(), prefix=prefix)) as memory,
    ):
        memory.add("größer", metadata={"ü": "ß"}, user_id="ü")
        assert memory.search("größer", metadata={"ü": "ß"}, user_id="ü")[0].text == "größer"
        memory.close()
        assert client.ping()


def test_a_database_for_an_event_loop_is_refused_by_the_synchronous_manager(prefix: str) -> None:
    database = AsyncRedisVectorDatabase("redis://localhost:1", HashingEmbeddings(), prefix=prefix)
    with pytest.raises(ConfigurationError, match=r"AsyncRedisVectorDatabase.* use AsyncMemoryManager"):
        MemoryManager(database)


def test_what_cannot_be_a_database_is_refused_when_it_is_made() -> None:
    embeddings = HashingEmbeddings()
    with pytest.raises(ConfigurationError, match="needs embeddings="):
        RedisVectorDatabase("redis://localhost:1")
    with pytest.raises(ConfigurationError, match="a url or a client, not both"):
        RedisVectorDatabase("redis://localhost:1", embeddings, client=redis.Redis())
    with pytest.raises(ConfigurationError, match="AsyncRedisVectorDatabase takes this one"):
        RedisVectorDatabase(embeddings=embeddings, client=redis.asyncio.Redis())
    with pytest.raises(ConfigurationError, match="RedisVectorDatabase takes this one"):
        AsyncRedisVectorDatabase(embeddings=embeddings, client=redis.Redis())
    with pytest.raises(ConfigurationError, match="braces"):
        RedisVectorDatabase("redis://localhost:1", embeddings, prefix="a}b")
    with pytest.raises(ValidationError, match="exact_up_to"):
        RedisVectorDatabase("redis://localhost:1", embeddings, exact_up_to=-1)


def test_a_server_that_is_away_is_a_provider_error_without_its_password() -> None:
    database = RedisVectorDatabase("redis://:hidden@localhost:1", HashingEmbeddings(), retry_timeout_s=0)
    assert "hidden" not in repr(database)
    with MemoryManager(database) as memory, pytest.raises(ProviderError, match="cannot be reached") as caught:
        memory.add("tea")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+cluster"])
def test_a_url_is_a_database(scheme: str) -> None:
    memory = MemoryManager(f"{scheme}://localhost:1", embeddings=HashingEmbeddings())
    assert isinstance(memory.vector_database, RedisVectorDatabase)
    assert str(memory.vector_database).startswith(f"RedisVectorDatabase('{scheme}://localhost:1', Hashing")


# Settings.


def test_the_factory_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_VECTOR_DB_FACTORY", FACTORY)
    database = MemoryManager().vector_database
    assert isinstance(database, RedisVectorDatabase)
    assert repr(database).startswith("RedisVectorDatabase('redis://localhost:6379/0', Hashing")
    assert database.prefix == "memory"
    monkeypatch.setenv("REDIS_URL", "redis://somewhere:1234/5")
    monkeypatch.setenv("REDISVL_INDEX_NAME", "mine")
    monkeypatch.setenv("REDISVL_DISTANCE_METRIC", "cosine")
    monkeypatch.setenv("REDISVL_VECTOR_DIMENSIONS", "64")
    database = create_redis_memory_vector_db(HashingEmbeddings(64))
    assert "redis://somewhere:1234/5" in repr(database)
    assert database.prefix == "mine"
    for name in SETTINGS:
        monkeypatch.setenv(name, " ")
    assert create_redis_memory_vector_db(HashingEmbeddings()).prefix == "memory"


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("REDIS_URL", "http://somewhere", "REDIS_URL: .*not http://"),
        ("REDIS_URL", "somewhere:6379", "REDIS_URL: "),
        ("REDIS_URL", "redis://:hidden@somewhere:port", "REDIS_URL: "),
        ("REDISVL_INDEX_NAME", "a{b}", "REDISVL_INDEX_NAME: .*braces"),
        ("REDISVL_DISTANCE_METRIC", "L2", "REDISVL_DISTANCE_METRIC='L2': .*COSINE"),
        ("REDISVL_VECTOR_DIMENSIONS", "many", "REDISVL_VECTOR_DIMENSIONS='many': "),
        ("REDISVL_VECTOR_DIMENSIONS", "0", "REDISVL_VECTOR_DIMENSIONS='0': "),
        ("REDISVL_VECTOR_DIMENSIONS", "1536", "REDISVL_VECTOR_DIMENSIONS=1536, .* gives 64"),
    ],
)
def test_a_setting_that_cannot_be_followed_is_named(
    monkeypatch: pytest.MonkeyPatch, setting: str, value: str, told: str
) -> None:
    monkeypatch.setenv(setting, value)
    with pytest.raises(ConfigurationError, match=told) as caught:
        create_redis_memory_vector_db(HashingEmbeddings(64))
    assert "hidden" not in str(caught.value)
    monkeypatch.setenv("MEMORY_VECTOR_DB_FACTORY", FACTORY)
    with pytest.raises(FactoryRuntimeError) as caught_by_manager:
        MemoryManager(embeddings=HashingEmbeddings(64))
    assert isinstance(caught_by_manager.value.__cause__, ConfigurationError)


class Learning(HashingEmbeddings):
    """Knows its dimensions from its first answer."""

    @property
    def dimensions(self) -> int:
        raise ConfigurationError("not known yet")


def test_dimensions_that_are_known_later_are_held_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDISVL_VECTOR_DIMENSIONS", "3")
    database = create_redis_memory_vector_db(Learning(2))
    with pytest.raises(DimensionMismatchError, match="dimensions=3 "):
        run(database.searching("tea"))
