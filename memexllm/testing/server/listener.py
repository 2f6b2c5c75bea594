"""Connections: one thread accepts them, each is served in a daemon thread of its own."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable

from memexllm.testing.server.delivery import Delivery, error_delivery
from memexllm.testing.server.outcomes import ServerError
from memexllm.testing.server.wire import Connection, ConnectionEndedError, UnreadableRequestError, WireRequest

_JOIN_TIMEOUT_S = 5
_BACKLOG = 512

OnStatus = Callable[[int], None]


class Listener:
    """Listens from construction to `close()`; `respond` says what to send and whom to tell the status."""

    def __init__(self, host: str, port: int, respond: Callable[[WireRequest], tuple[Delivery, OnStatus]]) -> None:
        self._respond = respond
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._socket = socket.create_server((host, port), backlog=_BACKLOG)
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        woken, self._waker = socket.socketpair()
        self._acceptor = threading.Thread(target=self._accept, args=(woken,), name="openai-server", daemon=True)
        self._acceptor.start()

    def close(self) -> None:
        self._closing.set()
        self._waker.close()
        self._acceptor.join()
        self._socket.close()
        with self._lock:
            connections = dict(self._connections)
        for sock in connections.values():
            _shut_down(sock)
        for thread in connections:
            thread.join(_JOIN_TIMEOUT_S)

    def _accept(self, woken: socket.socket) -> None:
        with woken, selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            selector.register(woken, selectors.EVENT_READ)
            while True:
                selector.select()
                if self._closing.is_set():
                    return
                self._serve_in_thread(self._socket.accept()[0])

    def _serve_in_thread(self, sock: socket.socket) -> None:
        thread = threading.Thread(target=self._serve, args=(sock,), name="openai-connection", daemon=True)
        with self._lock:
            self._connections[thread] = sock
        thread.start()

    def _serve(self, sock: socket.socket) -> None:
        connection = Connection(sock, self._closing.is_set)
        try:
            while self._answer_one(connection):
                pass
        except ConnectionEndedError:
            return
        finally:
            with self._lock:
                self._connections.pop(threading.current_thread(), None)
            connection.close()

    def _answer_one(self, connection: Connection) -> bool:
        """Whether the connection is of use for another request."""
        try:
            request = connection.read_request()
        except UnreadableRequestError as error:
            connection.send(error_delivery(ServerError(error.status, error.message)), lambda _: None)
            return False
        delivery, on_status = self._respond(request)
        connection.send(delivery, on_status)
        return request.keep_alive


def _shut_down(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        # Its own thread, or the client, was quicker.
        return
