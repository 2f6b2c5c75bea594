"""A server of the Redis protocol that is killed and started again, with every acknowledged write on disk."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from tests.servers import STOP_S

READY_S = 60.0


class Restarting:
    """On a unix socket in a folder; what was there before a kill is there after the next `start`."""

    def __init__(self, binary: str, folder: Path) -> None:
        self._binary = binary
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{folder / 'socket'}"

    def start(self) -> None:
        options = {
            "port": 0,
            "unixsocket": self._folder / "socket",
            "dir": self._folder,
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
        }
        arguments = [each for name, value in options.items() for each in (f"--{name}", str(value))]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([self._binary, *arguments], stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + READY_S
        with redis.Redis.from_url(self.url) as client:
            while time.monotonic() < deadline:
                with contextlib.suppress(redis.RedisError):
                    client.ping()
                    return
                time.sleep(0.01)
        raise RuntimeError(f"{self._binary} does not answer after {READY_S:g} s")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_S)
            self._process = None


@contextmanager
def restarting(binary: str) -> Iterator[Restarting]:
    with tempfile.TemporaryDirectory(prefix="mx-") as folder:
        server = Restarting(binary, Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()
