"""Planned trouble: errors, dropped lines, gates, and what becomes of the server itself."""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from memexllm.testing.server import Answer, Drop, Gate, Hold, OpenAIServer, ServerError, StreamError

if TYPE_CHECKING:
    from collections.abc import Iterator

HELLO: list[Any] = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[OpenAIServer, OpenAI]]:
    with (
        OpenAIServer() as server,
        OpenAI(base_url=server.base_url, api_key="local", max_retries=0) as client,
    ):
        yield server, client


@pytest.fixture
def server(shared: tuple[OpenAIServer, OpenAI]) -> OpenAIServer:
    shared[0].clear()
    return shared[0]


@pytest.fixture
def client(shared: tuple[OpenAIServer, OpenAI]) -> OpenAI:
    return shared[1]


def content_of(client: OpenAI) -> str | None:
    return client.chat.completions.create(model="any", messages=HELLO).choices[0].message.content


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (408, openai.APIStatusError),
        (409, openai.ConflictError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
def test_an_http_error_raises_the_sdks_error_for_it(
    server: OpenAIServer, client: OpenAI, status: int, error: type[openai.APIStatusError]
) -> None:
    server.plan(ServerError(status))
    with pytest.raises(error) as raised:
        content_of(client)
    assert raised.value.status_code == server.requests[0].status == status
    assert raised.value.type


def test_an_error_says_what_the_plan_says(server: OpenAIServer, client: OpenAI) -> None:
    server.plan(ServerError(400, "Too long", code="context_length_exceeded", param="messages", headers={"x-mine": "1"}))
    with pytest.raises(openai.BadRequestError, match="Too long") as raised:
        content_of(client)
    assert (raised.value.code, raised.value.param) == ("context_length_exceeded", "messages")
    assert raised.value.type == "invalid_request_error"
    assert raised.value.response.headers["x-mine"] == "1"


def test_a_retry_takes_the_next_outcome(server: OpenAIServer, client: OpenAI) -> None:
    server.plan(ServerError(429, retry_after_s=0), ServerError(500, retry_after_s=0), Answer("at last"))
    assert content_of(client.with_options(max_retries=2)) == "at last"
    assert [request.status for request in server.requests] == [429, 500, 200]


def test_a_line_dropped_before_the_answer_is_a_connection_error(server: OpenAIServer, client: OpenAI) -> None:
    server.plan(Drop())
    with pytest.raises(openai.APIConnectionError):
        content_of(client)
    assert server.requests[0].status is None
    assert content_of(client) == "You said: hello"


def test_a_stream_dropped_after_k_chunks_has_delivered_k(server: OpenAIServer, client: OpenAI) -> None:
    server.plan(Drop(after_chunks=3, answer="one two three four"))
    received: list[str | None] = []
    with pytest.raises(openai.APIConnectionError):  # noqa: PT012 - the chunks before the error are the point
        for chunk in client.chat.completions.create(model="any", messages=HELLO, stream=True):
            received.append(chunk.choices[0].delta.content)  # noqa: PERF401 - a comprehension would lose them
    assert received == ["", "one", " two"]


def test_an_error_event_ends_the_stream_after_k_chunks(server: OpenAIServer, client: OpenAI) -> None:
    server.plan(StreamError(after_chunks=2, message="overloaded", code="busy"))
    received: list[str | None] = []
    with pytest.raises(openai.APIError, match="overloaded") as raised:  # noqa: PT012 - as above
        for chunk in client.chat.completions.create(model="any", messages=HELLO, stream=True):
            received.append(chunk.choices[0].delta.content)  # noqa: PERF401 - as above
    assert received == ["", "You"]
    assert raised.value.code == "busy"


def test_without_a_stream_the_error_event_is_a_500(server: OpenAIServer, client: OpenAI) -> None:
    server.plan(StreamError(message="overloaded"))
    with pytest.raises(openai.InternalServerError, match="overloaded"):
        content_of(client)


def test_an_answer_waits_for_its_gate(server: OpenAIServer, client: OpenAI) -> None:
    with Gate() as gate, ThreadPoolExecutor() as pool:
        server.plan(Hold(gate, "after the gate"))
        answer = pool.submit(content_of, client)
        gate.wait_until_reached()
        assert (answer.done(), server.requests[0].status) == (False, None)
        gate.open()
        assert answer.result() == "after the gate"


def test_a_stream_waits_between_chunks(server: OpenAIServer, client: OpenAI) -> None:
    with Gate() as first, Gate() as second:
        server.plan(Hold(first, Hold(second, "one two three", before_chunk=3), before_chunk=2))
        chunks = client.chat.completions.create(model="any", messages=HELLO, stream=True)
        texts = [next(chunks).choices[0].delta.content for _ in range(2)]
        first.wait_until_reached()
        first.open()
        texts.append(next(chunks).choices[0].delta.content)
        second.wait_until_reached()
        second.open()
        texts.extend(chunk.choices[0].delta.content for chunk in chunks)
    assert texts == ["", "one", " two", " three", None]


def test_a_plain_event_is_a_gate_too(server: OpenAIServer, client: OpenAI) -> None:
    opened = threading.Event()
    opened.set()
    server.plan(Hold(opened, ServerError(409)))
    with pytest.raises(openai.ConflictError):
        content_of(client)


async def test_a_call_can_be_cancelled_while_the_server_waits(server: OpenAIServer) -> None:
    with Gate() as gate:
        server.plan(Hold(gate))
        async with AsyncOpenAI(base_url=server.base_url, api_key="local") as client:
            call = asyncio.create_task(client.chat.completions.create(model="any", messages=HELLO))
            await asyncio.to_thread(gate.wait_until_reached)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
    assert len(server.requests) == 1


def test_nobody_at_the_gate_is_a_timeout() -> None:
    with pytest.raises(TimeoutError, match="is the request sent"):
        Gate().wait_until_reached(timeout_s=0)


def test_closing_ends_requests_held_at_a_gate() -> None:
    gate = Gate()
    with ThreadPoolExecutor() as pool, OpenAIServer() as server:
        server.plan(Hold(gate))
        with OpenAI(base_url=server.base_url, api_key="local", max_retries=0) as client:
            answer = pool.submit(content_of, client)
            gate.wait_until_reached()
            server.close()
            assert isinstance(answer.exception(), openai.APIConnectionError)


def test_a_closed_server_is_not_reachable_and_can_start_again() -> None:
    server = OpenAIServer()
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.base_url
    host, port = server.start().origin.removeprefix("http://").split(":")
    with pytest.raises(RuntimeError, match="running already"):
        server.start()
    server.close()
    server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))
    with server:
        assert server.base_url.endswith("/v1")


def test_no_thread_is_left_behind() -> None:
    before = set(threading.enumerate())
    with OpenAIServer() as server, OpenAI(base_url=server.base_url, api_key="local") as client:
        content_of(client)
        server.close()
        assert set(threading.enumerate()) == before


def test_many_connections_are_served_at_once(server: OpenAIServer) -> None:
    n_clients = 16
    gates = [Gate() for _ in range(n_clients)]
    server.plan(*(Hold(gate) for gate in gates))
    with (
        OpenAI(base_url=server.base_url, api_key="local", max_retries=0) as client,
        ThreadPoolExecutor(n_clients) as pool,
    ):
        answers = [pool.submit(content_of, client) for _ in range(n_clients)]
        for gate in gates:
            gate.wait_until_reached()
        for gate in gates:
            gate.open()
        assert {answer.result() for answer in answers} == {"You said: hello"}


def test_a_connection_is_kept_alive_unless_the_client_closes_it(server: OpenAIServer) -> None:
    connection = HTTPConnection(server.origin.removeprefix("http://"))
    connection.request("GET", "/v1/models")
    connection.getresponse().read()
    sock = connection.sock
    connection.request("GET", "/v1/models", headers={"Connection": "close"})
    assert connection.sock is sock
    connection.getresponse().read()
    assert sock.recv(1) == b""
    connection.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
        (b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n" + b"x" * 65536, b"431"),
    ],
)
def test_bytes_that_are_no_request_are_answered_with_an_error(server: OpenAIServer, sent: bytes, status: bytes) -> None:
    host, port = server.origin.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(sent)
        assert sock.recv(65536).startswith(b"HTTP/1.1 " + status)


def test_a_client_that_asks_whether_to_send_its_body_is_told_to(server: OpenAIServer) -> None:
    host, port = server.origin.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert sock.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"{}")
        assert b"you must provide a model parameter" in sock.recv(65536)
