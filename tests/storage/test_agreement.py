"""Every storage does the same: random calls on all of them at once, compared step by step with the plain dict."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memexllm.core.errors import MemexLLMError
from memexllm.core.models import Message
from memexllm.storage import BaseStorage, MemoryStorage, SQLiteStorage
from memexllm.testing._batches import scale
from memexllm.testing._corpus import fingerprints, random_json, random_messages
from tests.storage.custom import LiveDictStorage

Call = Callable[[BaseStorage], Any]
THREADS = ("a", "b", "c")
USERS = (None, "ann", "bob")


def random_call(rng: random.Random, known: list[Message]) -> Call:
    """One call, the same for every storage; messages it appends are noted in `known`."""
    thread_id = rng.choice(THREADS)
    kind = rng.choices(("append", "patch", "replace", "delete", "save"), (12, 2, 2, 1, 2))[0]
    if kind == "append":
        messages = random_messages(rng.getrandbits(64), rng.randint(0, 4))
        known.extend(messages)
        return append_call(rng, thread_id, messages)
    if kind == "patch":
        fields: dict[str, Any] = {
            "title": rng.choice((None, "x")),
            "metadata": {"k": random_json(rng)},
            "state": {"p": random_json(rng)},
        }
        given = rng.sample(sorted(fields), k=rng.randint(1, 3))
        return lambda storage: storage.patch_thread(thread_id, **{name: fields[name] for name in given})
    if kind == "replace" and known:
        message_id = rng.choice(known).id
        (message,) = random_messages(rng.getrandbits(64), 1)
        message.id = message_id
        return lambda storage: storage.replace_message(thread_id, message_id, message)
    if kind == "save":
        return save_without_the_first(thread_id)
    return lambda storage: storage.delete_thread(thread_id)


def append_call(rng: random.Random, thread_id: str, messages: list[Message]) -> Call:
    options: dict[str, Any] = {
        "create": {"user_id": rng.choice(USERS), "title": "t", "metadata": {"m": 1}},
        "expected_version": rng.randint(0, 12),
        "supersede_from": rng.randint(-1, 30),
        "supersede": [rng.randint(-1, 30) for _ in range(3)],
        "state": {rng.choice("xyz"): random_json(rng), "new": {"$new": 0}},
        "counts": {rng.randint(-1, 30): (rng.randint(0, 99), "e") for _ in range(2)},
    }
    likely = {
        "create": 0.8,
        "expected_version": 0.15,
        "supersede_from": 0.15,
        "supersede": 0.2,
        "state": 0.4,
        "counts": 0.3,
    }
    given = {name: value for name, value in options.items() if rng.random() < likely[name]}
    return lambda storage: storage.append_messages(thread_id, messages, **given)


def save_without_the_first(thread_id: str) -> Call:
    """The thread saved without the first of its messages."""

    def save(storage: BaseStorage) -> None:
        head = storage.read_head(thread_id)
        if head is not None:
            messages = storage.read_messages(thread_id, include_superseded=True)
            whole = head.changed(messages=messages[1:], partial=False, stored_messages=None)
            storage.save_thread(whole)

    return save


def outcome(use: Call, storage: BaseStorage) -> Any:
    try:
        return use(storage)
    except MemexLLMError as error:
        return type(error)


def seen(storage: BaseStorage) -> dict[str, Any]:
    """Everything the contract shows, but the times of writes."""
    shown: dict[str, Any] = {"listed": [thread.id for thread in storage.list_threads()]}
    for thread_id in THREADS:
        head = storage.read_head(thread_id)
        shown[thread_id] = head and (
            head.user_id,
            head.title,
            head.metadata,
            head.state,
            head.version,
            head.message_count,
        )
        messages = storage.read_messages(thread_id, include_superseded=True)
        shown[f"{thread_id} messages"] = [
            (m.seq, text) for m, text in zip(messages, fingerprints(messages), strict=True)
        ]
        read: Any = storage.read_messages
        for bounds in ({"limit": 3}, {"after": 2, "limit": 2}, {"before": 4}, {"after": 1, "before": 9}):
            shown[f"{thread_id} {bounds}"] = fingerprints(read(thread_id, wire=True, **bounds))
    return shown


@pytest.mark.parametrize("max_messages", [None, 5])
@pytest.mark.parametrize("seed", range(5 * scale()))
def test_storages_agree(tmp_path: Path, seed: int, max_messages: int | None) -> None:
    rng = random.Random(f"{seed} {max_messages}")
    known: list[Message] = []
    with (
        MemoryStorage(max_messages) as memory,
        SQLiteStorage(tmp_path / "chat.db", max_messages=max_messages) as sqlite,
    ):
        for step in range(60):
            use = random_call(rng, known)
            assert outcome(use, memory) == outcome(use, sqlite), f"step {step}"
            assert seen(memory) == seen(sqlite), f"step {step}"


@pytest.mark.parametrize("seed", range(5 * scale()))
def test_the_defaults_agree_with_the_storages_that_override_them(seed: int) -> None:
    rng = random.Random(seed)
    known: list[Message] = []
    with MemoryStorage() as memory, LiveDictStorage() as four_methods:
        for step in range(60):
            use = random_call(rng, known)
            if getattr(use, "__name__", "") == "save":
                continue  # a raw save_thread is the manager's business for a storage of four methods
            assert outcome(use, memory) == outcome(use, four_methods), f"step {step}"
            assert seen(memory) == seen(four_methods), f"step {step}"
