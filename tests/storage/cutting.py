"""A way to a server that can be cut at a chosen moment: just before what a client says arrives, or just after."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from typing import Literal, Self

Moment = Literal["before", "after"]


class Cutting:
    """Listens at the unix socket `path` and passes everything on to `target`.

    `arm` cuts the next connection whose client says `word`: "before" it is passed on, or "after" the server answered,
    whose answer is lost.
    """

    def __init__(self, path: Path, target: Path) -> None:
        self._target = str(target)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(16)
        self._armed: tuple[bytes, Moment] | None = None
        self.n_cut = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._open: list[socket.socket] = []
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, *self._open):
            _close(each)
        for thread in self._threads:
            thread.join()

    def arm(self, word: bytes, moment: Moment) -> None:
        self._armed = (word, moment)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._target)
                self._open += [client, server]
                silenced = threading.Event()
                for target, arguments in (
                    (self._pass_on, (client, server, silenced)),
                    (self._pass_back, (client, server, silenced)),
                ):
                    thread = threading.Thread(target=target, args=arguments)
                    self._threads.append(thread)
                    thread.start()

    def _pass_on(self, client: socket.socket, server: socket.socket, silenced: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                armed = self._armed
                if armed is not None and armed[0] in data:
                    self._armed = None
                    self.n_cut += 1
                    if armed[1] == "before":
                        break
                    silenced.set()
                server.sendall(data)
        if not silenced.is_set():
            _close(server)
            _close(client)

    def _pass_back(self, client: socket.socket, server: socket.socket, silenced: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                if silenced.is_set():
                    break
                client.sendall(data)
        _close(server)
        _close(client)


def _close(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
