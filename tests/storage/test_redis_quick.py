"""The short way of an append on Redis leaves what the long one leaves."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from memexllm.core.errors import ConcurrencyError, CorruptThreadError, ThreadNotFoundError
from memexllm.core.models import CallInfo, Message, TokenCount
from memexllm.storage import RedisStorage
from memexllm.testing._batches import scale

MANY = 10**6
"""A limit that nothing reaches: appends of a storage that has one take the long way."""


@pytest.fixture
def client(redis_server: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_server) as client:
        yield client


@pytest.fixture
def pair(redis_server: str, client: Any) -> Iterator[tuple[RedisStorage, RedisStorage]]:
    """One whose plain appends take the short way, and one that takes the long way always."""
    prefixes = [uuid.uuid4().hex for _ in range(2)]
    with (
        RedisStorage(redis_server, prefix=prefixes[0]) as quick,
        RedisStorage(redis_server, prefix=prefixes[1], max_messages=MANY) as thorough,
    ):
        yield quick, thorough
    for prefix in prefixes:
        for key in client.scan_iter(match=f"*{prefix}*", count=1000):
            client.delete(key)


def stored(client: Any, storage: RedisStorage) -> dict[str, Any]:
    """All that lies under the prefix, without times and what writes leave of themselves."""
    found: dict[str, Any] = {}
    for key in client.scan_iter(match=f"*{storage.prefix}*", count=1000):
        name = key.decode().replace(storage.prefix, "")
        if ":done:" in name:
            continue
        kind = client.type(key)
        if kind == b"hash":
            fields: dict[bytes, Any] = client.hgetall(key)
            if b"tally" in fields:
                tally = fields[b"tally"].split(b",")
                fields = {**fields, b"tally": [*tally[:2], *tally[3:]], b"created_at": b""}
            found[name] = fields
        elif kind == b"zset":
            pairs = client.zrange(key, 0, -1, withscores=True)
            found[name] = sorted(member for member, _ in pairs) if name.endswith(":updated") else pairs
        else:
            found[name] = client.get(key)
    return found


def random_message(dice: random.Random) -> Message:
    text = dice.choice(["", "x", 'a\nb"\\', '{"seq":7}', "ü🙂\x00", "y" * 900])
    fields: dict[str, Any] = {}
    if dice.random() < 0.4:
        fields["call"] = CallInfo(model="m", usage={"n": [1, {}]})
    if dice.random() < 0.2:
        fields["metadata"] = {"k": "\n"}
    if dice.random() < 0.1:
        fields["tokens"] = TokenCount(count=3, encoding="e")
    if dice.random() < 0.1:
        fields["superseded"] = True
    return Message(text, dice.choice(["user", "assistant"]), **fields)


def random_state(dice: random.Random, n_messages: int) -> dict[str, Any] | None:
    values: list[Any] = [None, 5, "a\nb", [], {"deep": ["x"]}]
    if n_messages:
        values += [{"$new": 0}, {"at": {"$new": n_messages - 1}, "and": [{"$new": 0}, "1"]}]
    return {dice.choice(["cut", "block", 'k"\n']): dice.choice(values) for _ in range(dice.randrange(3))} or None


def uses(storage: RedisStorage) -> list[Callable[[], Any]]:
    """What reads the tally of thread t."""
    return [
        lambda: storage.append_messages("t", [Message("b", "user")]),
        lambda: storage.read_messages("t", limit=2, wire=True),
        lambda: storage.replace_message("t", "a", Message("b", "user")),
        lambda: storage.patch_thread("t", title="x"),
    ]


def test_the_short_way_leaves_what_the_long_one_leaves(pair: tuple[RedisStorage, RedisStorage], client: Any) -> None:
    dice = random.Random(7)
    for _ in range(60 * scale()):
        thread_id, user_id = dice.choice([("a", None), ("b", "ann"), ("c\n{}", "bob")])
        messages = [random_message(dice) for _ in range(dice.choice([0, 1, 2, 2, 3, 40]))]
        asked: dict[str, Any] = {"create": {"user_id": user_id}, "state": random_state(dice, len(messages))}
        if dice.random() < 0.4:
            asked["counts"] = {dice.randrange(40): (dice.randrange(9), 'e"\n') for _ in range(3)}
        if dice.random() < 0.1:
            asked["supersede_from"] = dice.randrange(30)
        versions = {storage.append_messages(thread_id, messages, **asked) for storage in pair}
        states = [storage.get_thread(thread_id, message_limit=1).state for storage in pair]  # type: ignore[union-attr]
        assert len(versions) == 1
        assert states[0] == states[1]
    quick, thorough = pair
    found, expected = stored(client, quick), stored(client, thorough)
    assert found == expected
    assert len(found) > 15


def test_the_short_way_refuses_what_the_long_one_refuses(pair: tuple[RedisStorage, RedisStorage], client: Any) -> None:
    for storage in pair:
        storage.append_messages("t", [Message("a", "user")], create={"user_id": "ann"})
        before = stored(client, storage)
        with pytest.raises(ConcurrencyError):
            storage.append_messages("t", [Message("b", "user")], expected_version=2)
        with pytest.raises(ThreadNotFoundError):
            storage.append_messages("t", [Message("b", "user")], create={"user_id": "bob"})
        with pytest.raises(ThreadNotFoundError):
            storage.append_messages("u", [Message("b", "user")])
        assert stored(client, storage) == before
        client.zrem(
            f"{{{storage.prefix}:thread:=t}}:live", *client.zrange(f"{{{storage.prefix}:thread:=t}}:live", 0, 0)
        )
        with pytest.raises(CorruptThreadError):
            storage.append_messages("t", [Message("b", "user")])
        client.hdel(f"{{{storage.prefix}:thread:=t}}:head", "tally")
        for use in uses(storage):
            with pytest.raises(CorruptThreadError):
                use()


def test_the_short_way_puts_back_an_entry_that_was_lost(pair: tuple[RedisStorage, RedisStorage], client: Any) -> None:
    for storage in pair:
        storage.append_messages("t", [Message("a", "user")], create={"user_id": "ann"})
        before = stored(client, storage)
        lost = [key for key in client.scan_iter(match=f"*{storage.prefix}:index*") if not key.endswith(b":places")]
        client.delete(*lost)
        storage.append_messages("t", [])
        for user_id in (None, "ann"):
            assert [each.id for each in storage.list_threads(user_id=user_id)] == ["t"]
            assert [each.id for each in storage.list_threads(user_id=user_id, order_by="-updated")] == ["t"]
        assert stored(client, storage).keys() | {"{:index}:format"} == before.keys()


def test_a_batch_longer_than_one_command_takes_is_appended_whole(pair: tuple[RedisStorage, RedisStorage]) -> None:
    messages = [Message(str(number), "user", metadata={"n": number}) for number in range(5000)]
    for storage in pair:
        storage.append_messages("t", [], create={})
        storage.append_messages("t", messages)
        assert storage.read_messages("t")[-1].metadata == {"n": 4999}
