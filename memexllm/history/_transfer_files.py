"""The files threads are written to and read from."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from memexllm.core.errors import ConfigurationError, ValidationError
from memexllm.core.models import Thread
from memexllm.history._transfer_lines import check_header, message_of, parsed_line, thread_of

MAX_LINE_BYTES = 1 << 28
"""A line is read as a whole; a file of something else might have no second one."""


class Target:
    """A path, or a file that is open for writing bytes. What a path held before stays there until `finish`."""

    def __init__(self, file: Any) -> None:
        self._path: Path | None = None
        self._made: Path | None = None
        if isinstance(file, str | os.PathLike):
            self._path = Path(os.path.realpath(file))
        else:
            self._stream: IO[bytes] = _binary(file, "wb")

    def __enter__(self) -> Self:
        if self._path is None:
            return self
        if self._path.exists() and not self._path.is_file():
            self._stream = self._path.open("wb")  # a device or a pipe
            return self
        number, made = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name[:100]}.", suffix=".part")
        self._stream, self._made = os.fdopen(number, "wb"), Path(made)
        return self

    def __exit__(self, *_: object) -> None:
        if self._path is None:
            return
        self._stream.close()
        if self._made is not None:
            self._made.unlink(missing_ok=True)

    def write(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            self._stream.write(line)

    def finish(self) -> None:
        """Everything was written."""
        self._stream.flush()
        if self._made is not None and self._path is not None:
            os.fsync(self._stream.fileno())
            self._made.replace(self._path)
            self._made = None


@dataclass(frozen=True, slots=True)
class Damage:
    """A line that cannot be imported, and why; nothing of it is shown."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


class Source:
    """A path, or a file that is open for reading bytes. It is read from where it stands, as often as asked."""

    def __init__(self, file: Any) -> None:
        self._path: str | None = None
        self._owned: list[IO[bytes]] = []
        self._start = 0
        self.size_bytes = 0
        self.position = 0
        if isinstance(file, str | os.PathLike):
            self._path = os.fspath(file)
            self.name = repr(self._path)
        else:
            self._stream: IO[bytes] = _binary(file, "rb")
            name = getattr(file, "name", None)
            self.name = repr(name) if isinstance(name, str) else "the file"

    def open(self) -> None:
        if self._path is not None:
            self._own(Path(self._path).open("rb"))  # noqa: SIM115 - closed on leaving
        if not self._stream.seekable():
            copied: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed on leaving
            given = self._stream
            self._own(copied)
            shutil.copyfileobj(given, copied)
            copied.seek(0)
        self._start = self._stream.tell()
        self.size_bytes = self._stream.seek(0, io.SEEK_END) - self._start

    def _own(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._owned.append(stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._owned:
            stream.close()

    def threads(self) -> Iterator[Thread | Damage]:
        """What is in the file, thread by thread; a thread with a damaged line is not among them."""
        self._stream.seek(self._start)
        self.position = 0
        return _Reading(self.name).threads(self._lines())

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        number = 0
        while line := self._stream.readline(MAX_LINE_BYTES + 1):
            number += 1
            self.position += len(line)
            if line.strip():
                yield number, line
            while len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
                line = self._stream.readline(MAX_LINE_BYTES + 1)
                self.position += len(line)


class _Reading:
    """Lines made into threads again."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: Thread | None = None
        self._n_expected = 0
        self._line = 0
        self._spoilt = False
        """A line of this thread could not be read, which was said."""
        self._damaged = False
        self._ids: set[str] = set()
        self._ended = False

    def threads(self, lines: Iterator[tuple[int, bytes]]) -> Iterator[Thread | Damage]:
        self._check_header(lines)
        number = 1
        for number, line in lines:
            try:
                fields = self._fields(line)
                kind = fields.get("type")
                if kind == "message":
                    self._add(fields)
                    continue
                yield from self._finished()
                if kind == "thread":
                    self._begin(number, fields)
                elif kind == "end":
                    self._end(fields)
                else:
                    raise ValidationError("its type is neither thread, message nor end")
            except ValidationError as error:
                self._spoilt = self._damaged = True
                yield Damage(number, str(error))
        yield from self._finished()
        if not self._ended:
            yield Damage(number, "the file ends here without its closing line: it was cut off")

    def _check_header(self, lines: Iterator[tuple[int, bytes]]) -> None:
        try:
            first = next(lines, None)
            check_header(None if first is None else _object_or_none(first[1]))
        except ValidationError as error:
            raise ValidationError(f"{self._name} cannot be imported: {error}. Nothing was changed") from None

    def _fields(self, line: bytes) -> dict[str, Any]:
        if len(line) > MAX_LINE_BYTES:
            raise ValidationError(f"it is longer than {MAX_LINE_BYTES} bytes")
        if self._ended:
            raise ValidationError("it stands after the closing line")
        return parsed_line(line)

    def _begin(self, number: int, fields: dict[str, Any]) -> None:
        self._thread, self._spoilt, self._line = None, False, number
        self._thread, self._n_expected = thread_of(fields)
        if self._thread.id in self._ids:
            raise ValidationError(f"thread {self._thread.id!r} is in the file twice")
        self._ids.add(self._thread.id)

    def _add(self, fields: dict[str, Any]) -> None:
        if self._spoilt:
            return
        if self._thread is None:
            raise ValidationError("a message stands before the first thread")
        last = self._thread.messages[-1].seq if self._thread.messages else None
        self._thread.messages.append(message_of(fields, -1 if last is None else last))

    def _finished(self) -> Iterator[Thread | Damage]:
        thread, self._thread = self._thread, None
        if thread is None or self._spoilt:
            return
        if len(thread.messages) != self._n_expected:
            self._damaged = True
            yield Damage(self._line, f"{len(thread.messages)} messages follow where it says {self._n_expected}")
        else:
            yield thread

    def _end(self, fields: dict[str, Any]) -> None:
        self._ended = True
        if not self._damaged and fields.get("n_threads") != len(self._ids):
            raise ValidationError(f"{len(self._ids)} threads stand before the closing line, which says otherwise")


def _object_or_none(line: bytes) -> dict[str, Any] | None:
    try:
        return parsed_line(line)
    except ValidationError:
        return None


def _binary(file: Any, mode: str) -> IO[bytes]:
    if isinstance(file, io.TextIOBase) or not hasattr(file, "write" if mode == "wb" else "read"):
        raise ConfigurationError(f'give a path, or a file opened with mode "{mode}"; this is a {type(file).__name__}')
    return file  # type: ignore[no-any-return]  # a file of the caller's, of whatever class
