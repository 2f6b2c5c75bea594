"""A Redis Cluster for the tests: masters and replicas of one binary, on free ports, in a temporary folder."""

from __future__ import annotations

import contextlib
import functools
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.servers import STOP_S

SLOTS = 16384
READY_S = 60.0
NODE_TIMEOUT_MS = 1000


class Cluster:
    """The nodes; `url` is where a client begins."""

    def __init__(self, binary: str, folder: Path, *, durable: bool) -> None:
        self._binary = binary
        self._durable = durable
        self._folder = folder
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self.masters: list[int] = []

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.masters[0]}"

    def client(self, port: int) -> Any:
        return redis.Redis(port=port, socket_timeout=5)

    def begin(self, n_masters: int) -> None:
        self.masters = [self._start() for _ in range(n_masters)]
        bounds = [SLOTS * number // n_masters for number in range(n_masters + 1)]
        for port, first, stop in zip(self.masters, bounds, bounds[1:], strict=False):
            with self.client(port) as client:
                # ADDSLOTSRANGE would need Redis 7.
                client.execute_command("CLUSTER", "ADDSLOTS", *range(first, stop))
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", self.masters.index(port) + 1)
        self._meet(self.masters)
        self.wait_until_whole()

    def add_replica(self, of: int) -> int:
        """A replica of the master at that port, which has all of its data when this returns."""
        port = self._start()
        self._meet([self.masters[0], port])
        with self.client(of) as client, self.client(port) as replica:
            node_id = client.execute_command("CLUSTER", "MYID")
            _until(lambda: node_id in replica.execute_command("CLUSTER", "NODES"), "the replica knows its master")
            replica.execute_command("CLUSTER", "REPLICATE", node_id)
            _until(lambda: replica.info("replication").get("master_link_status") == "up", "the replica has the data")
        return port

    def wait_until_whole(self) -> None:
        """Every node that runs knows of all slots."""
        for port in self._processes:
            with self.client(port) as client:
                _until(functools.partial(_is_whole, client), f"node {port} sees the whole cluster")

    def kill(self, port: int) -> None:
        """As a crash would: no word to anybody."""
        process = self._processes.pop(port)
        process.kill()
        process.wait(STOP_S)

    def promoted(self, port: int) -> bool:
        with self.client(port) as client:
            return bool(client.info("replication")["role"] == "master")

    def end(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            process.wait(STOP_S)

    def _start(self) -> int:
        port, bus = _free_ports()
        folder = self._folder / str(port)
        folder.mkdir()
        options = {
            "port": port,
            "bind": "127.0.0.1",
            "dir": folder,
            "cluster-enabled": "yes",
            "cluster-port": bus,
            "cluster-node-timeout": NODE_TIMEOUT_MS,
            "appendonly": "yes" if self._durable else "no",
            "appendfsync": "always",
            "repl-diskless-sync-delay": 0,
        }
        arguments = [each for name, value in options.items() for each in (f"--{name}", str(value))]
        log = (folder / "log").open("wb")
        with log:
            self._processes[port] = subprocess.Popen(
                [self._binary, *arguments, "--save", ""], stdout=log, stderr=subprocess.STDOUT
            )
        with self.client(port) as client:
            _until(lambda: client.ping(), f"node {port} answers")
        return port

    def _meet(self, ports: list[int]) -> None:
        with self.client(ports[0]) as first:
            for port in ports[1:]:
                with self.client(port) as other:
                    bus = other.config_get("cluster-port")["cluster-port"]
                first.execute_command("CLUSTER", "MEET", "127.0.0.1", port, bus)


@contextmanager
def cluster(binary: str, n_masters: int = 3, *, durable: bool = False) -> Iterator[Cluster]:
    """A cluster that lasts as long as the block. A durable one writes its log of commands before it answers."""
    with tempfile.TemporaryDirectory(prefix="mx-") as folder:
        found = Cluster(binary, Path(folder), durable=durable)
        try:
            found.begin(n_masters)
            yield found
        finally:
            found.end()


def _is_whole(client: Any) -> bool:
    said = client.execute_command("CLUSTER INFO")
    return bool(said["cluster_state"] == "ok" and int(said["cluster_slots_ok"]) == SLOTS)


def _until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        with contextlib.suppress(redis.RedisError):
            if condition():
                return
        time.sleep(0.02)
    raise RuntimeError(f"after {READY_S:g} s it is not so that {what}")


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]
