"""PostgresVectorDatabase on a real server with pgvector: the kit, filters, the index, and embedding anew."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from memexllm import MemoryManager
from memexllm.core.errors import DimensionMismatchError, ProviderError, ValidationError
from memexllm.memory import InMemoryVectorDatabase, MemoryRecord, PostgresVectorDatabase
from memexllm.memory.embeddings import HashingEmbeddings
from memexllm.memory.filters import parsed_filters
from memexllm.testing import VectorDatabaseConformance

Opened = Callable[..., MemoryManager]
Directly = Callable[..., list[Any]]
SCALE = int(os.environ.get("MEMEXLLM_TEST_SCALE", "1"))
WORDS = ("tea", "bread", "dog", "tide", "salt", "lamp")
TABLES = ("memory_records", "memory_vectors", "memory_new_vectors")

INDEXES = "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'memory_own' AND strpos(indexdef, 'hnsw') > 0"


class TestPostgres(VectorDatabaseConformance):
    """Its tests share tables, which are empty when one begins."""

    @pytest.fixture
    def database(self, embeddings: Any, postgres_server: str, directly: Directly) -> PostgresVectorDatabase:
        ((there,),) = directly("SELECT to_regclass('memory_kit.memexllm_memory_state')")
        if there is not None:
            directly(*(f"DELETE FROM memory_kit.memexllm_{name}" for name in TABLES))
        return PostgresVectorDatabase(postgres_server, embeddings, schema="memory_kit")


@pytest.mark.parametrize("seed", range(2 * SCALE))
def test_two_managers_on_one_database_see_what_one_in_memory_sees(opened: Opened, seed: int) -> None:
    rng = random.Random(seed)
    managers, model = [opened(), opened()], MemoryManager(InMemoryVectorDatabase(HashingEmbeddings(32)))
    known: list[MemoryRecord] = []
    for step in range(40):
        writer, reader, action = rng.choice(managers), rng.choice(managers), rng.random()
        text = f"{' '.join(rng.choices(WORDS, k=3))} {step}"
        if action < 0.6 or not known:
            known.append(MemoryRecord(text, user_id=rng.choice(["ada", "bob", None]), kind=rng.choice(["a", "b"])))
            for memory in (writer, model):
                memory.add_many(known[-1:])
        elif action < 0.8:
            record = rng.choice(known)
            for memory in (writer, model):
                memory.update(record.id, text=text)
        else:
            record = known.pop(rng.randrange(len(known)))
            for memory in (writer, model):
                assert memory.delete(record.id) is True
        filters: dict[str, Any] = rng.choice([{}, {"user_id": "ada"}, {"user_id": {"ne": "bob"}}, {"kind": "a"}])
        pages = [memory.search("tea bread", limit=5, offset=step % 3, **filters) for memory in (reader, model)]
        assert pages[0].total == pages[1].total
        assert [r.score for r in pages[0]] == pytest.approx([r.score for r in pages[1]], abs=1e-5)
        assert [r.id for r in reader.list(**filters)] == [r.id for r in model.list(**filters)]


STRANGE = (
    "",
    "a",
    "b",
    "0",
    "a.b",
    "$",
    'quo"te',
    "\x00",
    "\x01",
    "\x01\x01",
    "\x02",
    "a\x00",
    "%s",
    ":f0",
    "\\",
    "é",
    "🙂",
)
NUMBERS = (0, -0.0, 1, 1.0, -1, 0.1, 2**53, 2**53 + 1, 2**70, 2.0**70, 1e308, 5e-324, -1.5, 10**400)


def strange(rng: random.Random, depth: int = 2) -> Any:
    match rng.randrange(6 if depth else 4):
        case 0:
            return rng.choice((True, False, None))
        case 1:
            return rng.choice(NUMBERS)
        case 2 | 3:
            return rng.choice(STRANGE)
        case 4:
            return [strange(rng, depth - 1) for _ in range(rng.randrange(3))]
    return {rng.choice(STRANGE): strange(rng, depth - 1) for _ in range(rng.randrange(3))}


def strange_filter(rng: random.Random) -> Any:
    match rng.choice(("eq", "ne", "any", "all", "range", "deeper", "value")):
        case "any" | "all" as operator:
            return {operator: [strange(rng) for _ in range(rng.randrange(1, 4))]}
        case "range":
            bounds = rng.choice((STRANGE, NUMBERS))
            return {rng.choice(("gt", "gte", "lt", "lte")): rng.choice(bounds)}
        case "deeper":
            return {rng.choice(STRANGE): strange_filter(rng)}
        case "value":
            return rng.choice((strange(rng, 0), [strange(rng, 1)]))
        case operator:
            return {operator: strange(rng)}


def test_filters_are_exact_on_whatever_metadata_holds(opened: Opened) -> None:
    rng, memory = random.Random(7), opened()
    records = [
        MemoryRecord(
            f"tea {n}",
            kind=rng.choice(STRANGE),
            agent_id=rng.choice((*STRANGE, None)),
            metadata={rng.choice(STRANGE): strange(rng) for _ in range(4)},
        )
        for n in range(150)
    ]
    memory.add_many(records)
    assert memory.list(limit=1000).memories == records
    n_found = 0
    for _ in range(250 * SCALE):
        filters: dict[str, Any] = {"metadata": {rng.choice(STRANGE): strange_filter(rng)}}
        if rng.random() < 0.3:
            operator = rng.choice(("gt", "gte", "lt", "lte", "ne"))
            filters |= {rng.choice(("kind", "agent_id")): {operator: rng.choice(STRANGE)}}
        wanted = parsed_filters(filters)
        expected = [record.id for record in records if wanted.matches(record)]
        assert [record.id for record in memory.list(limit=1000, **filters)] == expected, filters
        n_found += len(expected)
    assert n_found > 1000


def test_names_may_be_longer_than_an_index_takes(opened: Opened) -> None:
    rng, memory = random.Random(1), opened()
    long = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=50_000))
    names: dict[str, Any] = {"user_id": long, "agent_id": long, "thread_id": long, "kind": long}
    record = memory.add("tea", memory_id=long, metadata={long: long}, **names)
    memory.add("tea", user_id=long[:-1])
    assert memory.get(long) == record
    assert memory.list(**names, metadata={long: long}).memories == [record]
    assert memory.delete(long, user_id=long)


# The index.


class Clusters:
    """A vector near one of ten directions, which the text's first sign says, told apart by the rest of the text."""

    dimensions = 16

    def embed(self, text: str) -> Any:
        vector = np.random.default_rng(list(text.encode())).standard_normal(self.dimensions)
        vector[int(text[0])] += 4
        return vector

    def embed_batch(self, texts: Any) -> Any:
        return np.array([self.embed(text) for text in texts])


@pytest.fixture(scope="module")
def clusters(postgres_server: str, directly: Directly) -> Iterator[list[MemoryRecord]]:
    """In the schema memory_clusters, with an index; a third of the records speak German."""
    directly("DROP SCHEMA IF EXISTS memory_clusters CASCADE")
    records = [
        MemoryRecord(f"{n % 10} {n}", user_id=f"user {n % 2}", metadata={"lang": "en" if n % 3 else "de", "of": n % 10})
        for n in range(1500)
    ]
    database = PostgresVectorDatabase(postgres_server, Clusters(), schema="memory_clusters", index_from=1000)
    with MemoryManager(database) as memory:
        memory.add_many(records[:-1])
        memory.add_many(records[-1:])
    yield records
    directly("DROP SCHEMA memory_clusters CASCADE")


@pytest.fixture
def along(postgres_server: str, clusters: list[MemoryRecord]) -> Iterator[Opened]:
    managers: list[MemoryManager] = []

    def opened_along(url: str = postgres_server, **options: Any) -> MemoryManager:
        given = {"schema": "memory_clusters", "index_from": 1000, "ef_search": 10, **options}
        managers.append(MemoryManager(PostgresVectorDatabase(None if "engine" in given else url, Clusters(), **given)))
        return managers[-1]

    yield opened_along
    for memory in managers:
        memory.close()


@pytest.fixture
def heard(postgres_server: str) -> Iterator[tuple[sa.Engine, list[tuple[str, Any]]]]:
    """An engine, and the statements it was given."""
    engine = sa.create_engine(postgres_server)
    said: list[tuple[str, Any]] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *event: said.append((event[2], event[3])))
    yield engine, said
    engine.dispose()


GERMAN = {"metadata": {"lang": "de"}}


@pytest.mark.parametrize("filters", [{}, GERMAN, {"user_id": "user 1"}, {"user_id": "user 1", "kind": "fact"}], ids=str)
def test_a_large_scope_is_searched_along_the_index(
    along: Opened, heard: tuple[sa.Engine, list[tuple[str, Any]]], filters: dict[str, Any]
) -> None:
    engine, said = heard
    assert len(along(engine=engine).search("3 x", limit=3, **filters)) == 3
    statement, values = next(each for each in said if "ORDER BY v.vector" in each[0])
    settings = [
        "SET enable_sort = off",
        "SET plan_cache_mode = force_custom_plan",
        "SET hnsw.iterative_scan = relaxed_order",
    ]
    with engine.connect() as connection:
        for setting in settings:
            connection.exec_driver_sql(setting)
        plan = "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement}", values))
    assert "vector_idx" in plan, plan


def test_a_page_is_whole_and_exact_in_its_filter_and_total(along: Opened, clusters: list[MemoryRecord]) -> None:
    memory, thorough = along(), along(ef_search=1000)
    filters: dict[str, Any] = {"user_id": "user 1", **GERMAN}
    n_right = 0
    german = {record.id for record in clusters if parsed_filters(filters).matches(record)}
    for n in range(20):
        for limit in (1, 4, 40):
            found = memory.search(f"{n % 10} query {n}", limit=limit, **filters)
            assert (len(found), found.total, found.next_offset) == (limit, len(german), limit)
            assert {record.id for record in found} <= german
            scores = [record.score or 0 for record in found]
            assert scores == sorted(scores, reverse=True)
        best = thorough.search(f"{n % 10} query {n}", limit=4)
        n_right += len({record.id for record in memory.search(f"{n % 10} query {n}", limit=4)} & {b.id for b in best})
    assert n_right >= 0.8 * 4 * 20


def test_pages_along_the_index_follow_each_other(along: Opened) -> None:
    memory, seen = along(), list[str]()
    for offset in range(0, 30, 3):
        page = memory.search("3 x", limit=3, offset=offset)
        assert (page.total, page.next_offset) == (1500, offset + 3)
        seen.extend(record.id for record in page)
    assert len(set(seen)) == 30


def test_a_page_is_whole_though_the_index_gives_up(along: Opened, postgres_server: str) -> None:
    """What matches lies where the index gets last."""
    url = sa.make_url(postgres_server).update_query_dict({"options": "-c hnsw.max_scan_tuples=1"})
    memory = along(url=url.render_as_string(hide_password=False), ef_search=1)
    found = memory.search("3 x", limit=1, metadata={"of": 4})
    assert (len(found), found.total, found[0].text[0]) == (1, 150, "4")


def test_how_many_are_alike_enough_is_exact(along: Opened) -> None:
    memory = along()
    everyone = memory.search("3 x", limit=1500)
    least = everyone[99].score or 0
    assert memory.search("3 x", min_score=least, limit=5).total == 100
    assert len(memory.search("3 x", min_score=least, limit=200)) == 100
    assert (memory.search("3 x", min_score=2).total, list(memory.search("3 x", offset=5000))) == (0, [])


def test_the_index_is_made_once_by_many_who_add(opened: Opened, directly: Directly) -> None:
    memory = opened(index_from=10)
    with ThreadPoolExecutor(6) as pool:
        for page in pool.map(lambda n: [memory.add(f"{n} {each}").id for each in range(10)], range(6)):
            assert len(page) == 10
    assert (len(directly(INDEXES)), memory.count()) == (1, 60)
    assert {record.text for record in memory.search("tea", limit=100)} == {
        f"{n} {e}" for n in range(6) for e in range(10)
    }


class OnACircle:
    """The text is an angle."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions

    def embed(self, text: str) -> Any:
        vector = np.zeros(self.dimensions)
        vector[-2:] = np.cos(float(text)), np.sin(float(text))
        return vector

    def embed_batch(self, texts: Any) -> Any:
        return np.array([self.embed(text) for text in texts])


@pytest.mark.parametrize(("dimensions", "kinds"), [(2500, ["halfvec"]), (4500, [])])
def test_vectors_of_many_dimensions_are_found(
    opened: Opened, directly: Directly, dimensions: int, kinds: list[str]
) -> None:
    memory = opened(OnACircle(dimensions), index_from=1, ef_search=3)
    memory.add_many([MemoryRecord(str(n / 16)) for n in range(99)])
    memory.add("6.28")
    for angle in ("0.125", "2", "4.25"):
        found = memory.search(angle, limit=1)
        assert (found[0].text, found.total) == (str(float(angle)), 100)
        assert found[0].score == pytest.approx(1, abs=1e-5)
    indexes = directly(INDEXES)
    assert [kind for _, definition in indexes for kind in kinds if kind in definition] == kinds
    assert len(indexes) == len(kinds)


# Dimensions, and embedding anew.


def test_vectors_of_another_length_are_refused_until_all_is_embedded_again(opened: Opened) -> None:
    memory = opened(HashingEmbeddings(32))
    other = opened(HashingEmbeddings(64))
    assert other.search("tea").total == 0
    memory.add("tea")
    for refused in (lambda: other.add("bread"), lambda: other.search("tea")):
        with pytest.raises(DimensionMismatchError, match=r"have 32 dimensions .* gives 64.*reembed"):
            refused()
    assert memory.list().total == 1
    assert other.reembed() == 1
    assert other.search("tea")[0].score == pytest.approx(1, abs=1e-5)
    with pytest.raises(DimensionMismatchError):
        memory.search("tea")
    memory.delete_all(user_id={"eq": None})
    memory.add("a database that was emptied takes any")
    assert memory.search("emptied").total == 1


def test_more_dimensions_than_postgresql_takes_are_refused(opened: Opened) -> None:
    memory = opened(HashingEmbeddings(16_001))
    with pytest.raises(ValidationError, match="at most 16,000 dimensions"):
        memory.add("tea")
    assert memory.count() == 0


def test_what_changes_while_all_is_embedded_again_is_embedded_too(opened: Opened, directly: Directly) -> None:
    memory, meanwhile = opened(index_from=3), opened(index_from=3)
    memory.add_many([MemoryRecord(f"tea {n}", id=str(n)) for n in range(6)])

    class Changing(HashingEmbeddings):
        n_batches = 0

        def embed_batch(self, texts: Any) -> Any:
            self.n_batches += 1
            if self.n_batches == 3:
                meanwhile.update("1", text="lamp")
            if self.n_batches == 1:
                meanwhile.add("bread")
                meanwhile.update("0", text="salt")
                meanwhile.delete("5")
                assert meanwhile.search("salt", limit=1)[0].id == "0"
            return super().embed_batch(texts)

    assert memory.reembed(Changing(64), batch_size=2) >= 6
    assert [memory.search(text, limit=1)[0].id for text in ("salt", "lamp")] == ["0", "1"]
    assert memory.search("bread", limit=1)[0].text == "bread"
    assert (memory.search("tea").total, memory.count()) == (6, 6)
    assert [table for table, _ in directly(INDEXES)] == ["memexllm_memory_vectors"]
    memory.add("one more")
    assert memory.reembed(HashingEmbeddings(16)) == 7
    assert memory.search("one more", limit=1)[0].score == pytest.approx(1, abs=1e-5)


def test_an_embedding_anew_that_broke_off_leaves_all_in_use(opened: Opened) -> None:
    memory = opened()
    memory.add_many([MemoryRecord(f"tea {n}") for n in range(6)])

    class Failing(HashingEmbeddings):
        n_batches = 0

        def embed_batch(self, texts: Any) -> Any:
            self.n_batches += 1
            if self.n_batches == 2:
                raise OSError("gone")
            return super().embed_batch(texts)

    provider = Failing(64)
    with pytest.raises(ProviderError, match="gone"):
        memory.reembed(provider, batch_size=4)
    assert memory.search("tea 3", limit=1)[0].text == "tea 3"
    assert memory.reembed(provider, batch_size=4) == 6
    assert memory.search("tea 3", limit=1)[0].text == "tea 3"
