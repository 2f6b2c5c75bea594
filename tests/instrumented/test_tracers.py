"""Whoever traces the SDK sees the prompt that is sent, history and all, wherever it sees a bare client's; the thread is
kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memexllm import MemoryStorage
from tests.openai.surfaces import BODIES, CALLS, CLIENTS, ROWS, THREAD, Api, Client, Row
from tests.openai.talking import async_sdk_client, sdk_client
from tests.openai.test_surfaces import SAID, contents, driven

if TYPE_CHECKING:
    from memexllm.testing.server import OpenAIServer
    from tests.instrumented.tracers import Tracer

# Those that can be spoken with a bare client as well.
CASES = [
    pytest.param(row, api, id=f"{api}: {row.surface}".replace("…", "..."))
    for row in ROWS
    if row.group in (CALLS, BODIES) or (row.group == CLIENTS and row.plain is not None)
    for api in row.apis
]
# What a tracer breaks of a bare client leaves its connection open.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class Bare(Client):
    """A client without history."""

    def params(self, text: str, **more: Any) -> dict[str, Any]:
        params = super().params(text, **more)
        del params["thread_id"]
        return params


def broken_by(tracer: Tracer, row: Row, error: Exception) -> None:
    assert tracer.name == "opentelemetry", "the others break nothing"
    assert row.group == BODIES, "it breaks streams that are read as bytes"
    pytest.skip(f"{tracer.name} breaks this call of a bare client: {type(error).__name__}: {error}")


def is_traced(tracer: Tracer, *texts: str) -> bool:
    return any(all(text in span for text in texts) for span in tracer.spans())


def test_a_tracer_sees_a_bare_client(server: OpenAIServer, tracer: Tracer) -> None:
    with sdk_client(server) as plain:
        plain.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": SAID[0]}])
    assert is_traced(tracer, SAID[0])


@pytest.mark.parametrize(("row", "api"), CASES)
def test_a_surface_is_traced_with_its_history(server: OpenAIServer, tracer: Tracer, row: Row, api: Api) -> None:
    with (row.plain or (lambda server, _: sdk_client(server)))(server, False) as plain:
        try:
            driven(row.speak(Bare(plain, api), SAID[0]))
        except (AttributeError, TypeError) as error:
            broken_by(tracer, row, error)
        traced = is_traced(tracer, SAID[0])
        client = row.wrap(plain, storage=MemoryStorage())
        for text, answer in zip(SAID[::2], SAID[1::2], strict=True):
            assert driven(row.speak(Client(client, api), text)) in (answer, "")
        assert contents(server, api) == SAID[:3]
        assert [message.text for message in client.history.get_messages(THREAD)] == SAID
        assert is_traced(tracer, *SAID[:3]) == traced


@pytest.mark.parametrize(("row", "api"), CASES)
async def test_an_async_surface_is_traced_with_its_history(
    server: OpenAIServer, tracer: Tracer, row: Row, api: Api
) -> None:
    async with (row.plain or (lambda server, _: async_sdk_client(server)))(server, True) as plain:
        try:
            await row.speak(Bare(plain, api), SAID[0])
        except (AttributeError, TypeError) as error:
            broken_by(tracer, row, error)
        traced = is_traced(tracer, SAID[0])
        client = row.wrap(plain, storage=MemoryStorage())
        for text, answer in zip(SAID[::2], SAID[1::2], strict=True):
            assert await row.speak(Client(client, api), text) in (answer, "")
        assert contents(server, api) == SAID[:3]
        assert [message.text for message in await client.history.get_messages(THREAD)] == SAID
        assert is_traced(tracer, *SAID[:3]) == traced
