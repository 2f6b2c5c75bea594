"""Several who write to one Redis database at once: what each sees and leaves is as if one came after the other."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from memexllm import MemoryManager
from memexllm.core.errors import ConcurrencyError, MemexLLMError
from memexllm.core.flow import run
from memexllm.memory import EmbeddingVectorDatabase, InMemoryVectorDatabase, MemoryRecord, RedisVectorDatabase
from memexllm.memory.embeddings import HashingEmbeddings
from tests.memory.meddling import Meddled

if TYPE_CHECKING:
    from tests.memory.redis8 import Redis8

Work = Callable[[EmbeddingVectorDatabase], Any]


def shown(records: Any) -> list[Any]:
    return [(record.id, record.text, str(record.metadata)) for record in records]


def a_memory(text: str, record_id: str, n: int) -> MemoryRecord:
    return MemoryRecord(text, id=record_id, user_id="ada", metadata={"n": n})


def add(text: str, record_id: str, n: int = 0) -> Work:
    def added(database: EmbeddingVectorDatabase) -> Any:
        written = run(database.adding([a_memory(text, record_id, n)]))
        return written.ids, list(written.new)

    return added


def update(text: str, n: int) -> Work:
    return lambda database: run(database.updating([a_memory(text, "a", n)])).ids


def delete(ids: list[str] | None, **filters: Any) -> Work:
    return lambda database: run(database.deleting(ids, **filters))


def found(method: str, *args: Any, **asked: Any) -> Work:
    def ask(database: EmbeddingVectorDatabase) -> Any:
        results = run(getattr(database, method)(*args, **asked))
        return sorted(shown(results)), results.total

    return ask


OPERATIONS: dict[str, Work] = {
    "add": add("milk", "new"),
    "add what is there": add("tea", "new"),
    "add under a taken id": add("milk", "b"),
    "update a text": update("milk", 1),
    "update metadata": update("tea", 7),
    "delete": delete(["a"]),
    "delete by metadata": delete(None, metadata={"n": 1}),
    "search by metadata": found("searching", "tea", metadata={"n": 1}),
    "search": found("searching", "tea", user_id="ada", kind="fact"),
    "list by metadata": found("listing", limit=1, metadata={"n": 1}),
    "count by metadata": lambda database: run(database.counting(metadata={"n": 1})),
}
MEDDLINGS: dict[str, Work] = {
    "somebody says it": add("milk", "other", 1),
    "somebody takes the id": add("salt", "new"),
    "somebody updates it": update("salt", 2),
    "somebody deletes it": delete(["a"]),
    "somebody deletes all": delete(None, user_id="ada"),
}


def outcome(work: Work, database: EmbeddingVectorDatabase) -> Any:
    try:
        return work(database)
    except MemexLLMError as error:
        return type(error).__name__


def say(said: list[Any], work: Work, database: EmbeddingVectorDatabase) -> None:
    said.append(outcome(work, database))


def left_in(database: EmbeddingVectorDatabase) -> list[Any]:
    return shown(run(database.listing()))


def filled(database: EmbeddingVectorDatabase) -> EmbeddingVectorDatabase:
    run(database.adding([a_memory("tea", "a", 1), a_memory("bread", "b", 1), a_memory("dog", "c", 3)]))
    return database


def in_turn(first: Work, second: Work) -> tuple[Any, Any, Any]:
    """What both say, and what they leave, in a database that only one can use at a time."""
    database = filled(InMemoryVectorDatabase(HashingEmbeddings(32)))
    return outcome(first, database), outcome(second, database), left_in(database)


@pytest.mark.parametrize("meddling", MEDDLINGS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_happens_in_between_happened_before_or_after(
    redis8: Redis8, prefix: str, operation: str, meddling: str
) -> None:
    work, other_work = OPERATIONS[operation], MEDDLINGS[meddling]
    before, other_before, left_before = in_turn(work, other_work)
    other_after, after, left_after = in_turn(other_work, work)
    allowed = [(before, other_before, left_before), (after, other_after, left_after)]
    for place in itertools.count(1):
        other = filled(opened(redis8.client, f"{prefix}{place}"))
        client = Meddled(redis8.client)
        database = opened(client, f"{prefix}{place}")
        run(database.counting())
        said: list[Any] = []
        client.before(place, partial(say, said, other_work, other))
        mine = outcome(work, database)
        if not said:
            break
        assert (mine, said[0], left_in(other)) in allowed, f"before command {place}"
    assert place > 1


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name.startswith(("add", "update", "delete"))])
def test_a_write_whose_answer_was_lost_is_done_once(redis8: Redis8, prefix: str, operation: str) -> None:
    expected, _, left = in_turn(OPERATIONS[operation], lambda database: None)
    for place in itertools.count(1):
        filled(opened(redis8.client, f"{prefix}{place}"))
        client = Meddled(redis8.client)
        database = opened(client, f"{prefix}{place}")
        run(database.counting())
        client.lose_the_answer_of(place)
        assert outcome(OPERATIONS[operation], database) == expected
        assert left_in(database) == left
        if not client.n_lost:
            break
    assert place > 1


def test_what_is_added_while_all_is_embedded_again_is_embedded_too(redis8: Redis8, prefix: str) -> None:
    memory, meanwhile = (MemoryManager(opened(redis8.client, prefix)) for _ in range(2))
    memory.add_many([MemoryRecord(f"tea {n}", id=str(n), user_id="ada") for n in range(6)])

    class Adding(HashingEmbeddings):
        begun = False

        def embed_batch(self, texts: Any) -> Any:
            if not self.begun:
                self.begun = True
                meanwhile.add("bread")
                meanwhile.update("0", text="salt")
                meanwhile.update("1", metadata={"n": 1})
                meanwhile.delete("5")
                assert meanwhile.search("tea").total == 6
            return super().embed_batch(texts)

    assert memory.reembed(Adding(64), batch_size=2) >= 6
    assert memory.search("salt", limit=1)[0].id == "0"
    assert memory.search("bread", limit=1)[0].text == "bread"
    assert memory.search("tea").total == 6
    assert memory.search("tea", kind="fact", user_id="ada").total == 5


def test_who_is_overtaken_while_embedding_all_again_leaves_it_as_it_is(redis8: Redis8, prefix: str) -> None:
    memory, overtaking = (MemoryManager(opened(redis8.client, prefix)) for _ in range(2))
    memory.add_many([MemoryRecord(f"tea {n}") for n in range(4)])

    class Overtaken(HashingEmbeddings):
        def embed_batch(self, texts: Any) -> Any:
            overtaking.reembed(HashingEmbeddings(16))
            return super().embed_batch(texts)

    with pytest.raises(MemexLLMError, match="somebody else began to embed") as caught:
        memory.reembed(Overtaken(64), batch_size=2)
    assert isinstance(caught.value.__cause__, ConcurrencyError)
    assert overtaking.search("tea 1", limit=1)[0].text == "tea 1"


def opened(client: Any, prefix: str) -> RedisVectorDatabase:
    return RedisVectorDatabase(embeddings=HashingEmbeddings(32), client=client, prefix=prefix)
