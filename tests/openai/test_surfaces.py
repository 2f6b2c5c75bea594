"""Every surface sends the thread's history and stores the turn; the guide's table is made of these rows."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import pytest
from openai.types.chat import ChatCompletion

from memexllm import MemoryStorage, with_history
from tests.openai.surfaces import GUIDE, HEADER, ROWS, THREAD, Api, Client, Row, with_table
from tests.openai.talking import async_sdk_client, sdk_client

if TYPE_CHECKING:
    from memexllm.testing.server import OpenAIServer

CASES = [pytest.param(row, api, id=f"{api}: {row.surface}".replace("…", "...")) for row in ROWS for api in row.apis]
TOLD = "My name is Ada."
ASKED = "What is my name?"
SAID = [TOLD, f"You said: {TOLD}", ASKED, "Your name is Ada."]


def driven(coroutine: Coroutine[Any, Any, str]) -> str:
    """What a row returns when nothing in it waits, as with a synchronous client."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return str(stop.value)
    raise AssertionError("a synchronous client's call waited for an event loop")


def contents(server: OpenAIServer, api: Api) -> list[Any]:
    """What the newest request said, whichever API it speaks."""
    if api == "chat":
        return [message["content"] for message in server.last_messages]
    said = (item["content"] for item in server.last_items)
    return [content if isinstance(content, str) else content[0]["text"] for content in said]


def nothing_of_ours_was_sent(server: OpenAIServer) -> bool:
    return not any(
        THREAD.encode() in request.raw or THREAD in str(request.headers) or HEADER.lower() in request.headers
        for request in server.requests
    )


@pytest.mark.parametrize(("row", "api"), CASES)
def test_a_surface_carries_history(server: OpenAIServer, row: Row, api: Api) -> None:
    with (row.plain or (lambda server, _: sdk_client(server)))(server, False) as plain:
        client = row.wrap(plain, storage=MemoryStorage())
        for text, answer in zip(SAID[::2], SAID[1::2], strict=True):
            assert driven(row.speak(Client(client, api), text)) in (answer, "")
        assert contents(server, api) == SAID[:3]
        assert [message.text for message in client.history.get_messages(THREAD)] == SAID
    assert nothing_of_ours_was_sent(server)


@pytest.mark.parametrize(("row", "api"), CASES)
async def test_an_async_surface_carries_history(server: OpenAIServer, row: Row, api: Api) -> None:
    async with (row.plain or (lambda server, _: async_sdk_client(server)))(server, True) as plain:
        client = row.wrap(plain, storage=MemoryStorage())
        for text, answer in zip(SAID[::2], SAID[1::2], strict=True):
            assert await row.speak(Client(client, api), text) in (answer, "")
        assert contents(server, api) == SAID[:3]
        assert [message.text for message in await client.history.get_messages(THREAD)] == SAID
    assert nothing_of_ours_was_sent(server)


def test_the_guides_table_is_made_of_these_rows() -> None:
    page = GUIDE.read_text("utf-8")
    assert page == with_table(page), "python -m tests.openai.surfaces writes it"


def test_every_row_is_another_surface() -> None:
    assert len({row.surface for row in ROWS}) == len(ROWS)


def test_client_post_is_outside(server: OpenAIServer) -> None:
    with sdk_client(server) as plain:
        client = with_history(plain, storage=MemoryStorage(), thread_id=THREAD)
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": TOLD}]}
        client.post("/chat/completions", body=body, cast_to=ChatCompletion)
        assert client.history.list_threads() == []
