"""HTTP/1.1 on a socket: one request in, one delivery out.

`http.server` spends more time on the twenty headers of an SDK request than everything else here together;
this reads what an HTTP client library sends and no more.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import BinaryIO

from memexllm.testing.server.delivery import Cut, Delivery, Event, Step, Wait
from memexllm.testing.server.outcomes import Waitable

_MAX_LINE_BYTES = 65536
_GATE_POLL_S = 0.05


@dataclass(frozen=True)
class WireRequest:
    method: str
    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def keep_alive(self) -> bool:
        return self.headers.get("connection", "").lower() != "close"


class ConnectionEndedError(Exception):
    """Nothing more can be read from or sent over this connection."""


class UnreadableRequestError(Exception):
    """The bytes are no request this server reads; the connection is of no further use."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Connection:
    """One client's socket. `closing` tells a wait at a gate to give up."""

    def __init__(self, sock: socket.socket, closing: Callable[[], bool]) -> None:
        self._sock = sock
        self._closing = closing
        self._input: BinaryIO = sock.makefile("rb")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self._input.close()
        self._sock.close()

    def read_request(self) -> WireRequest:
        method, path = self._read_request_line()
        headers = self._read_headers()
        return WireRequest(method, path, headers, self._read_body(headers))

    def send(self, delivery: Delivery, on_status: Callable[[int], None]) -> None:
        """Calls `on_status` before the first byte leaves, so a client with an answer finds it recorded."""
        for gate in delivery.gates:
            self._wait(gate)
        if delivery.status is None:
            raise ConnectionEndedError
        on_status(delivery.status)
        headers = dict(delivery.headers)
        if delivery.body is None:
            self._send_stream(delivery.status, headers, delivery.steps)
        else:
            headers |= {"content-type": "application/json", "content-length": str(len(delivery.body))}
            self._send_bytes(_head(delivery.status, headers) + delivery.body)

    def _send_stream(self, status: int, headers: dict[str, str], steps: tuple[Step, ...]) -> None:
        headers |= {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"}
        self._send_bytes(_head(status, headers))
        for step in steps:
            match step:
                case Event(text):
                    named = "" if step.name is None else f"event: {step.name}\n"
                    event = f"{named}data: {text}\n\n".encode()
                    self._send_bytes(b"%x\r\n%b\r\n" % (len(event), event))
                case Wait(gate):
                    self._wait(gate)
                case Cut():
                    raise ConnectionEndedError
        self._send_bytes(b"0\r\n\r\n")

    def _wait(self, gate: Waitable) -> None:
        while not gate.wait(_GATE_POLL_S):
            if self._closing():
                raise ConnectionEndedError

    def _send_bytes(self, payload: bytes) -> None:
        try:
            self._sock.sendall(payload)
        except OSError as error:
            # The client has gone; that is its right.
            raise ConnectionEndedError from error

    def _read_line(self) -> bytes:
        try:
            line = self._input.readline(_MAX_LINE_BYTES)
        except OSError as error:
            raise ConnectionEndedError from error
        if not line.endswith(b"\n"):
            if len(line) == _MAX_LINE_BYTES:
                raise UnreadableRequestError(431, f"A header line is longer than {_MAX_LINE_BYTES} bytes.")
            raise ConnectionEndedError
        return line.rstrip(b"\r\n")

    def _read_request_line(self) -> tuple[str, str]:
        line = self._read_line().decode("latin-1")
        words = line.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise UnreadableRequestError(400, f"Not an HTTP/1.1 request line: {line!r}")
        return words[0], words[1]

    def _read_headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        while line := self._read_line():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        return headers

    def _read_body(self, headers: dict[str, str]) -> bytes:
        if "transfer-encoding" in headers:
            raise UnreadableRequestError(411, "Send a Content-Length; this server does not read chunked bodies.")
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise UnreadableRequestError(400, f"Not a Content-Length: {length!r}")
        if headers.get("expect", "").lower() == "100-continue":
            self._send_bytes(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            raw = self._input.read(int(length))
        except OSError as error:
            raise ConnectionEndedError from error
        if len(raw) < int(length):
            raise ConnectionEndedError
        return raw


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {_PHRASES.get(status, 'Unknown')}",
        *(f"{k}: {v}" for k, v in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


_PHRASES = {status.value: status.phrase for status in HTTPStatus}
