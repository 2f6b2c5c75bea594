"""Records: what they are made of, and how they go through a flat dict and back."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memexllm.core.errors import MemoryNotFoundError, ValidationError
from memexllm.memory import Document, Fact, Memory, MemoryRecord, MemoryRecordResult, MemoryRecordResults

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: bool(text.strip()))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
RECORDS = st.builds(
    MemoryRecord,
    TEXTS,
    id=TEXTS,
    kind=TEXTS,
    user_id=st.none() | st.just("") | TEXTS,
    agent_id=st.none() | TEXTS,
    thread_id=st.none() | TEXTS,
    metadata=st.dictionaries(TEXTS, VALUES, max_size=3),
    created_at=st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)),
)


@given(RECORDS)
def test_a_record_goes_through_a_redis_hash_and_back(record: MemoryRecord) -> None:
    flat = record.to_dict()
    assert all(isinstance(value, str | int | float) for value in flat.values())
    as_redis_returns_it = {key.encode(): str(value).encode() for key, value in flat.items()}
    for data in (flat, as_redis_returns_it, json.loads(json.dumps(flat))):
        assert MemoryRecord.from_dict(data) == record


def test_a_score_and_an_embedding_go_along() -> None:
    record = MemoryRecord("tea", score=0.5, embedding=np.array([1, 0.5], dtype="float32"))
    flat = record.to_dict(embedding=True)
    again = MemoryRecord.from_dict(
        {key.encode(): value if isinstance(value, bytes) else str(value).encode() for key, value in flat.items()}
    )
    assert again.score == 0.5
    assert list(again.embedding) == [1, 0.5]
    assert "embedding" not in record.to_dict()


def test_an_empty_dict_says_that_there_is_none() -> None:
    with pytest.raises(MemoryNotFoundError):
        Memory.from_dict({})


@pytest.mark.parametrize(
    "data",
    ["text", {b"text": b"\xff"}, {"id": "x"}, {"text": "tea", "metadata": "{"}, {"text": "x", "score": "high"}],
    ids=["no dict", "no UTF-8", "no text", "no JSON", "no number"],
)
def test_what_is_no_record_is_refused(data: Any) -> None:
    with pytest.raises(ValidationError):
        MemoryRecord.from_dict(data)


def test_what_else_is_in_the_dict_does_not_matter() -> None:
    assert MemoryRecord.from_dict({b"text": b"tea", b"vector": b"\xff\x00", b"distance": b"0.1"}).text == "tea"


def test_content_is_the_text() -> None:
    assert Fact(content="tea").text == MemoryRecord("tea").content == "tea"
    with pytest.raises(ValidationError):
        MemoryRecord("tea", content="tea")
    with pytest.raises(ValidationError):
        MemoryRecord()


@pytest.mark.parametrize(
    "fields", [{"text": " \n"}, {"text": 1}, {"text": "x", "user_id": 1}, {"text": "x", "metadata": 1}], ids=str
)
def test_a_record_that_makes_no_sense_is_refused_without_quoting_it(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MemoryRecord(**fields)


def test_the_seeds_models_are_records() -> None:
    fact = Fact(id="1", content="tea", user_id="ada", agent_id=None, metadata=None, created_at=NOON)
    assert (fact.kind, fact.metadata, fact.updated_at) == ("fact", {}, NOON)
    assert Document(id="1", content="tea").kind == "document"
    assert isinstance(Document("tea"), MemoryRecord)


def test_neither_repr_nor_errors_show_what_a_record_says() -> None:
    record = MemoryRecord("a secret", metadata={"key": "a secret"})
    assert "secret" not in repr(record) + str(record) + repr(MemoryRecordResults([record]))
    with pytest.raises(ValidationError) as caught:
        MemoryRecord("a secret", user_id=["a secret"])  # type: ignore[arg-type]  # what is refused
    assert "secret" not in str(caught.value)


def test_distance_and_score_are_one() -> None:
    assert MemoryRecordResult("tea", score=0.75).dist == 0.25
    assert MemoryRecordResult("tea", dist=0.25).score == 0.75
    assert MemoryRecordResult("tea").dist is None


def test_results_are_a_sequence_of_records() -> None:
    records = [MemoryRecord("tea"), MemoryRecord("bread")]
    results = MemoryRecordResults(records)
    assert (list(results), len(results), results[0], results[-1:]) == (records, 2, records[0], records[1:])
    assert (results.total, results.next_offset) == (2, None)
    assert not MemoryRecordResults([])


def test_another_text_has_no_embedding_yet() -> None:
    record = MemoryRecord("tea", embedding=[1.0])
    assert record.changed(metadata={}).embedding == [1.0]
    assert record.changed(text="bread").embedding is None
    assert record.changed(text="bread", embedding=[2.0]).embedding == [2.0]
