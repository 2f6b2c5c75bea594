"""Storages as `MEMEXLLM_STORAGE` names them, and what is none."""

from __future__ import annotations

from typing import Any

from memexllm import MemoryStorage
from tests.storage.custom import AsyncDictStorage, PlainStorage

KEPT = MemoryStorage()
number = 3


def create() -> MemoryStorage:
    return KEPT


def create_plain() -> PlainStorage:
    return PlainStorage()


def create_async() -> AsyncDictStorage:
    return AsyncDictStorage()


class Backend:
    @classmethod
    def create(cls) -> MemoryStorage:
        return KEPT


def returns_a_dict() -> Any:
    return {}


def returns_the_class() -> Any:
    return MemoryStorage


async def is_asynchronous() -> Any:
    return KEPT


def raises() -> Any:
    raise KeyError("the password of the server")
