"""The Redis database as the environment describes it.

    MEMORY_VECTOR_DB_FACTORY=memexllm.memory_vector_db_factory.create_redis_memory_vector_db
    REDIS_URL=redis://localhost:6379
    REDISVL_INDEX_NAME=memory
    REDISVL_DISTANCE_METRIC=COSINE
    REDISVL_VECTOR_DIMENSIONS=1536

All but the first have these defaults, except for the dimensions, which are those of the embedding provider.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from memexllm._extras import required
from memexllm.core.errors import ConfigurationError, DimensionMismatchError
from memexllm.memory.embeddings.base import checked_provider
from memexllm.memory.redis import RedisVectorDatabase
from memexllm.storage._redis_keys import checked_prefix
from memexllm.storage._redis_urls import Place

_URL, _NAME = "REDIS_URL", "REDISVL_INDEX_NAME"
_METRIC, _DIMENSIONS = "REDISVL_DISTANCE_METRIC", "REDISVL_VECTOR_DIMENSIONS"


def create_redis_memory_vector_db(embeddings: Any) -> RedisVectorDatabase:
    """The database at `REDIS_URL` under the prefix `REDISVL_INDEX_NAME`; both managers take it. Nothing is opened yet.

    A setting that cannot be followed is a `ConfigurationError` that names it: memories are compared by cosine only, and
    `REDISVL_VECTOR_DIMENSIONS` must be what `embeddings` gives.
    """
    checked_provider(embeddings)
    _refuse_other_metrics()
    return RedisVectorDatabase(_url(), embeddings, prefix=_prefix(), dimensions=_dimensions(embeddings))


def _setting(name: str) -> str | None:
    """A blank one counts as none."""
    return os.environ.get(name, "").strip() or None


def _url() -> str | None:
    url = _setting(_URL)
    if url is not None:
        redis = required("redis", extra="redis", by="create_redis_memory_vector_db")
        with _naming(_URL):
            Place(url, max_connections=1, timeout_s=1.0).check(redis)
    return url


def _prefix() -> str:
    with _naming(_NAME):
        return checked_prefix(_setting(_NAME) or "memory")


def _refuse_other_metrics() -> None:
    metric = _setting(_METRIC) or "COSINE"
    if metric.upper() != "COSINE":
        raise ConfigurationError(f"{_METRIC}={metric!r}: memories are compared by COSINE only; set that, or nothing")


def _dimensions(embeddings: Any) -> int | None:
    text = _setting(_DIMENSIONS)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ConfigurationError(f"{_DIMENSIONS}={text!r}: a whole number above 0 is needed, such as 1536, or nothing")
    try:
        given = embeddings.dimensions
    except ConfigurationError:
        # It learns them from its first answer, and the database looks at that.
        return int(text)
    if given != int(text):
        raise DimensionMismatchError(
            f"{_DIMENSIONS}={text}, and the embedding provider gives {given} dimensions; set {given}, or nothing"
        )
    return int(text)


@contextmanager
def _naming(setting: str) -> Generator[None]:
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{setting}: {error}") from None
