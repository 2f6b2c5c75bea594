"""Where a list of threads was left, as an opaque text: `Thread.cursor`.

It holds the thread's place and times, not a reference to it, so it outlives the thread.
"""

from __future__ import annotations

import base64
import struct
import zlib
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Self

from memexllm.core.errors import ValidationError

_VERSION = 1
# 35 bytes and a checksum of 4: a multiple of 3, so each character of the text counts.
_FIELDS = struct.Struct(">Bqqq10s")
_SUM = struct.Struct(">I")
_NO_PLACE = -1


@dataclass(frozen=True, slots=True)
class Cursor:
    """`place` is the position in the order of creation, None when the storage gave none; times are microseconds."""

    place: float | None
    created_at: int
    updated_at: int
    mark: bytes
    """Tells the thread apart from others (`mark_of` its id)."""

    def encoded(self) -> str:
        place = _NO_PLACE if self.place is None else int(self.place)
        data = _FIELDS.pack(_VERSION, place, self.created_at, self.updated_at, self.mark)
        return base64.urlsafe_b64encode(data + _SUM.pack(zlib.crc32(data))).decode()

    @classmethod
    def decoded(cls, text: Any) -> Self:
        """The cursor of a text; anything but one that `encoded` wrote is a `ValidationError`."""
        try:
            data = base64.b64decode(text, altchars=b"-_", validate=True)
            version, place, created_at, updated_at, mark = _FIELDS.unpack(data[: -_SUM.size])
            (checksum,) = _SUM.unpack(data[-_SUM.size :])
        except (ValueError, TypeError, struct.error):
            raise _damaged(text) from None
        if checksum != zlib.crc32(data[: -_SUM.size]) or version != _VERSION:
            raise _damaged(text)
        return cls(None if place == _NO_PLACE else place, created_at, updated_at, mark)


def mark_of(thread_id: str) -> bytes:
    return blake2b(thread_id.encode("utf-8", "surrogatepass"), digest_size=10).digest()


def _damaged(text: Any) -> ValidationError:
    shown = repr(text) if isinstance(text, str) and len(text) <= 100 else f"a {type(text).__name__}"
    return ValidationError(f"this is no cursor, or a damaged one: {shown}; before= and after= take a listed thread's")
