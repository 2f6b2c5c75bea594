"""Raw responses: nothing is raised or read earlier than the SDK does, and the turn is stored whoever reads them."""

from __future__ import annotations

import gc
import json
import operator
import threading
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pydantic
import pytest
from openai import APIResponseValidationError, OpenAI

from memexllm import MemoryStorage, history_of, with_history
from memexllm.core.errors import ResourceNotFoundError, ValidationError
from memexllm.integrations.openai.raw_streams import ServerSentJSON
from memexllm.testing.server import Drop
from tests.openai.surfaces import HEADER, text_of_lines
from tests.openai.talking import async_sdk_client, sdk_client, user

if TYPE_CHECKING:
    from collections.abc import Iterator

    from memexllm.testing.server import OpenAIServer

STORY = "Once upon a time there was a fox who learned to read."


class City(pydantic.BaseModel):
    name: str


@contextmanager
def serving(body: bytes) -> Iterator[str]:
    """A server that answers everything with these bytes and calls them JSON."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": [user("Which city?")], "thread_id": "t", **more}


def responses(**more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "input": "Which city?", "thread_id": "t", **more}


def contents(client: Any) -> list[Any]:
    return [message.text for message in client.history.get_messages("t")] if client.history.list_threads() else []


@pytest.fixture(params=["chat", "responses"])
def parsing(request: pytest.FixtureRequest, client: Any) -> Any:
    """`with_raw_response.parse` of an API, asked for a city."""
    if request.param == "chat":
        return lambda: client.chat.completions.with_raw_response.parse(**chat(response_format=City))
    return lambda: client.responses.with_raw_response.parse(**responses(text_format=City))


class TestParsing:
    """The SDK parses a raw response when it is asked to."""

    def test_an_answer_that_is_refused_is_refused_when_it_is_parsed(
        self, server: OpenAIServer, client: Any, parsing: Any
    ) -> None:
        server.answer("I would rather not.")
        response = parsing()
        assert history_of(response).saved
        assert contents(client) == ["Which city?", "I would rather not."]
        for _ in range(2):
            with pytest.raises(pydantic.ValidationError):
                response.parse()
        assert len(contents(client)) == 2

    @pytest.mark.parametrize("body", [b'{"id": "c", "choi', b'{"id": "c", "choices": 5}'], ids=["cut", "odd"])
    @pytest.mark.parametrize("surface", ["chat.completions", "responses"])
    @pytest.mark.parametrize("raw", ["with_raw_response", "with_streaming_response"])
    def test_what_cannot_be_read_is_refused_when_it_is_parsed(self, body: bytes, surface: str, raw: str) -> None:
        resource = operator.attrgetter(f"{surface}.{raw}")
        with (
            serving(body) as base_url,
            OpenAI(base_url=base_url, api_key="local", max_retries=0, _strict_response_validation=True) as original,
        ):
            client: Any = with_history(original, storage=MemoryStorage())
            made = resource(client).create(**(responses() if surface == "responses" else chat()))
            with made if raw == "with_streaming_response" else nullcontext(made) as response:
                with pytest.raises((ValueError, APIResponseValidationError)):
                    response.parse()
                assert not history_of(response).saved
            assert contents(client) == []

    def test_a_parsed_answer_carries_history(self, server: OpenAIServer, client: Any, parsing: Any) -> None:
        server.answer('{"name": "Rome"}')
        response = parsing()
        parsed = response.parse()
        assert City(name="Rome") in (getattr(parsed, "output_parsed", None), _parsed_in_chat(parsed))
        assert response.parse() is parsed
        assert history_of(parsed) is history_of(response)
        assert len(contents(client)) == 2

    async def test_an_awaited_answer_that_is_refused_is_refused_when_it_is_parsed(
        self, async_client: Any, server: OpenAIServer
    ) -> None:
        server.answer("I would rather not.")
        ask = async_client.chat.completions.with_streaming_response.parse
        async with ask(**chat(response_format=City)) as response:
            assert history_of(response).saved
            with pytest.raises(pydantic.ValidationError):
                await response.parse()
        stored = await async_client.history.get_messages("t")
        assert [message.text for message in stored] == ["Which city?", "I would rather not."]


def _parsed_in_chat(parsed: Any) -> Any:
    return parsed.choices[0].message.parsed if hasattr(parsed, "choices") else None


class TestUnparsedStreams:
    @pytest.mark.parametrize("reading", ["iter_lines", "iter_text", "iter_bytes", "read"])
    def test_it_is_stored_once_however_it_is_read(self, server: OpenAIServer, client: Any, reading: str) -> None:
        server.answer(STORY)
        with client.responses.with_streaming_response.create(**responses(stream=True)) as response:
            assert contents(client) == []
            found = getattr(response, reading)()
            if reading != "read":
                list(found)
            assert contents(client) == ["Which city?", STORY]
            assert history_of(response).saved
        assert len(contents(client)) == 2

    def test_the_response_below_a_raw_one_is_listened_to(self, server: OpenAIServer, client: Any) -> None:
        server.answer(STORY)
        response = client.chat.completions.with_raw_response.create(**chat(stream=True))
        list(response.http_response.iter_lines())
        assert contents(client) == ["Which city?", STORY]

    @pytest.mark.parametrize("api", ["chat", "responses"])
    def test_left_it_keeps_what_was_said(self, server: OpenAIServer, client: Any, api: str) -> None:
        server.answer(STORY)
        resource, params = (client.chat.completions, chat) if api == "chat" else (client.responses, responses)
        with resource.with_streaming_response.create(**params(stream=True)) as response:
            said = ""
            for line in response.iter_lines():
                said += text_of_lines([line])
                if said:
                    break
        question, answer = client.history.get_messages("t")
        assert (question.status, answer.status) == ("complete", "incomplete")
        assert answer.text.startswith(said)
        assert STORY.startswith(answer.text)

    async def test_an_awaited_one_that_breaks_keeps_what_was_said(
        self, server: OpenAIServer, async_client: Any
    ) -> None:
        server.plan(Drop(after_chunks=4, answer=STORY))
        create = async_client.chat.completions.with_streaming_response.create
        # Who reads lines gets what the HTTP library raises, and its name differs with the release of the SDK.
        with pytest.raises(Exception, match="closed connection"):
            await _read_lines(create(**chat(stream=True)))
        _, answer = await async_client.history.get_messages("t")
        assert answer.status == "incomplete"
        assert STORY.startswith(answer.text)

    def test_unread_nothing_is_stored(self, client: Any) -> None:
        with client.chat.completions.with_streaming_response.create(**chat(stream=True)):
            pass
        assert contents(client) == []


@pytest.mark.timeout(30)
class TestSerialized:
    """With `serialize=True` a raw stream holds its thread until it is read, closed or gone."""

    @pytest.fixture
    def client(self, server: OpenAIServer) -> Iterator[Any]:
        with sdk_client(server) as plain:
            yield with_history(plain, storage=MemoryStorage(), serialize=True, journal=True)

    @pytest.mark.parametrize("reading", [None, "iter_lines", "parse"])
    def test_the_next_call_goes_on_when_it_is_closed(self, client: Any, reading: str | None) -> None:
        with client.responses.with_streaming_response.create(**responses(stream=True)) as response:
            if reading is not None:
                list(getattr(response, reading)())
        client.responses.create(**responses())
        assert len(contents(client)) == (2 if reading is None else 4)
        assert {message.status for message in client.history.get_messages("t")} == {"complete"}

    def test_the_next_call_goes_on_when_it_is_gone(self, client: Any) -> None:
        client.responses.with_raw_response.create(**responses(stream=True))
        gc.collect()
        client.responses.create(**responses())
        assert len(contents(client)) == 2


async def _read_lines(opening: Any) -> None:
    async with opening as response:
        async for _ in response.iter_lines():
            pass


class TestServerSentEvents:
    EVENTS = (
        b'event: a\r\ndata: {"n": 1}\r\n\r\n: comment\n\ndata: {"n":\ndata: 2}\n\n'
        b'id: 7\rdata:{"n": 3}\r\rdata: [DONE]\n\n'
    )

    @pytest.mark.parametrize("size", range(1, len(EVENTS) + 1))
    def test_they_are_told_apart_wherever_their_bytes_are_cut(self, size: int) -> None:
        decoder = ServerSentJSON()
        pieces: Iterator[bytes] = (self.EVENTS[at : at + size] for at in range(0, len(self.EVENTS), size))
        assert [found["n"] for piece in pieces for found in decoder.feed(piece)] == [1, 2, 3]

    def test_what_is_no_json_object_is_passed_over(self) -> None:
        given = b"data: oops\n\ndata: [1]\n\ndata: \xff\n\ndata: {}\n\n"
        assert list(ServerSentJSON().feed(given)) == [{}]


class TestHelpers:
    def test_history_of_what_stream_gives(self, client: Any) -> None:
        with client.chat.completions.stream(**chat()) as stream:
            assert not history_of(stream).saved
            stream.until_done()
            assert (history_of(stream).thread_id, history_of(stream).saved) == ("t", True)
        with client.responses.stream(**responses()) as stream:
            stream.until_done()
            assert (history_of(stream).injected, history_of(stream).saved) == (2, True)

    def test_a_stream_without_history_has_none(self, client: Any) -> None:
        with client.chat.completions.stream(**chat(thread_id=None)) as stream:
            stream.until_done()
            with pytest.raises(ResourceNotFoundError):
                history_of(stream)


class TestDefaultHeaders:
    """A client whose default headers name a thread is bound to it, as by `with_thread`."""

    def test_a_copy_is_bound_and_the_client_is_not(self, server: OpenAIServer, client: Any) -> None:
        bound = client.with_options(default_headers={HEADER: "a", "x-mine": "1"})
        bound.responses.create(model="gpt-4o", input="one")
        assert [thread.id for thread in client.history.list_threads()] == ["a"]
        assert server.requests[-1].headers["x-mine"] == "1"
        assert HEADER not in bound.default_headers
        client.with_thread("b").responses.create(model="gpt-4o", input="two")
        assert {thread.id for thread in client.history.list_threads()} == {"a", "b"}

    def test_the_call_and_a_later_binding_come_first(self, client: Any) -> None:
        bound = client.with_options(default_headers={HEADER.lower(): "a"})
        bound.responses.create(model="gpt-4o", input="one", thread_id="b")
        bound.with_thread("c").responses.create(model="gpt-4o", input="one")
        bound.copy(default_headers={HEADER: "d"}).responses.create(model="gpt-4o", input="one")
        bound.for_user("ada").responses.create(model="gpt-4o", input="one")
        assert {thread.id: thread.user_id for thread in client.history.list_threads()} == {
            "b": None,
            "c": None,
            "d": None,
            "a": "ada",
        }

    def test_the_client_that_was_wrapped_keeps_its_headers(self, server: OpenAIServer) -> None:
        with sdk_client(server, default_headers={HEADER: "a"}) as plain:
            with_history(plain, storage=MemoryStorage())
            assert plain.default_headers[HEADER] == "a"

    def test_an_empty_id_is_refused_when_it_is_wrapped(self, server: OpenAIServer) -> None:
        with sdk_client(server, default_headers={HEADER: ""}) as plain, pytest.raises(ValidationError):
            with_history(plain, storage=MemoryStorage())

    async def test_it_never_reaches_the_server(self, server: OpenAIServer) -> None:
        async with async_sdk_client(server, default_headers={HEADER: "secret"}) as plain:
            client: Any = with_history(plain, storage=MemoryStorage())
            await client.chat.completions.create(model="gpt-4o", messages=[user("one")])
            await client.chat.completions.create(model="gpt-4o", messages=[user("one")], thread_id=None)
            await client.models.list()
        assert not any("secret" in json.dumps(request.headers) for request in server.requests)
