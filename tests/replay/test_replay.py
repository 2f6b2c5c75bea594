"""The replay law: a wrapped client that is told only a part sends what a bare client with the whole list would send."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from memexllm import HistoryManager
from memexllm.testing import OpenAIServer
from memexllm.testing._conversations import Writer
from tests.replay.replay_law import SEEDS, THREAD_ID, BareCaller, WrappedCaller, as_kept, as_sent_again, text


@pytest.fixture(scope="module")
def lenient() -> Iterator[OpenAIServer]:
    # To this server no spoken answer has expired: the callers repeat old ones by their id alone.
    with OpenAIServer(clock=lambda: 0) as server:
        yield server


@pytest.fixture(scope="module")
def strict() -> Iterator[OpenAIServer]:
    with OpenAIServer(strict_fields=True, clock=lambda: 0) as server:
        yield server


@pytest.fixture(params=["memory", "sqlite"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "chat.db" if request.param == "sqlite" else None


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("unknown_fields", [False, True], ids=["known", "unknown"])
async def test_what_is_sent_is_what_the_whole_list_would_be(
    lenient: OpenAIServer, strict: OpenAIServer, path: Path | None, seed: int, unknown_fields: bool
) -> None:
    random = Random(seed)
    calls = Writer(random, unknown_fields=unknown_fields).conversation(random.randint(2, 7))
    server = lenient if unknown_fields else strict
    bare = BareCaller(lenient)
    wrapped = WrappedCaller(server, random, path)
    try:
        for scripted in calls:
            given = await wrapped.call(scripted)
            received = text(server.last_messages)
            expected = bare.call(scripted, streamed=given.streamed)
            normal = [as_kept(each) if i in bare.answered else each for i, each in enumerate(expected)]
            assert received == text([as_sent_again(each) for each in normal]), given.part
        bare.call(calls[0], streamed=False)
        whole: list[Any] = lenient.last_messages[: -len(calls[0].said)]
        with HistoryManager(wrapped.storage) as manager:
            stored = [message.wire for message in manager.get_messages(THREAD_ID)]
        assert text(stored) == text([as_kept(each) if i in bare.answered else each for i, each in enumerate(whole)])
    finally:
        bare.close()
        await wrapped.close()
