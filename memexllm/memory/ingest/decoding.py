"""Bytes become text: by byte order mark, by what the file declares, as UTF-8, or else as the old western encodings."""

from __future__ import annotations

import codecs
import re

from memexllm.core.errors import UnreadableFileError, ValidationError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# What pages call these two is the larger set of Windows. https://encoding.spec.whatwg.org/#names-and-labels
_READ_AS = {"iso8859-1": "cp1252", "ascii": "cp1252"}
_META = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w:.-]{1,40})|^\s*<\?xml[^>]{0,100}encoding\s*=\s*["']([\w:.-]{1,40})""",
    re.IGNORECASE,
)
_COOKIE = re.compile(rb"\A(?:[^\n]*\n)?[ \t\f]*#[^\n]{0,200}?coding[:=][ \t]*([-\w.]{1,40})")
_DECLARED_WITHIN = 4096
_CONTROLS = bytes(sorted({*range(32), 127} - {7, 8, 9, 10, 11, 12, 13, 27}))


def decoded(data: bytes, name: str, kind: str, encoding: str | None = None) -> tuple[str, str, list[str]]:
    """(text without its byte order mark, the encoding's name, notes). Bytes that are no text are refused.

    An `encoding` that is given is all that is tried.
    """
    if encoding is not None:
        return _as_asked(data, name, encoding), encoding, []
    for mark, marked in _MARKS:
        if data.startswith(mark):
            return _strictly(data[len(mark) :], marked, name), marked, []
    _refuse_binary(data, name)
    notes: list[str] = []
    declared = _declared(data, kind, notes)
    if declared is not None and declared != "utf-8":
        try:
            return data.decode(declared), declared, notes
        except (UnicodeDecodeError, LookupError):
            notes.append(f"the file declares {declared} and is not written in it")
    try:
        return data.decode("utf-8"), "utf-8", notes
    except UnicodeDecodeError as error:
        guess, text = _western(data)
        notes.append(f"byte {error.start} is no UTF-8; the file was read as {guess}: pass encoding= if that is wrong")
        return text, guess, notes


def _as_asked(data: bytes, name: str, encoding: str) -> str:
    try:
        codecs.lookup(encoding)
        return data.decode(encoding).removeprefix("\ufeff")
    except LookupError:
        raise ValidationError(f"encoding {encoding!r:.40} is not known to Python") from None
    except UnicodeDecodeError as error:
        raise UnreadableFileError(f"{name}: byte {error.start} is not {encoding}: {error.reason}") from None


def _strictly(data: bytes, encoding: str, name: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        told = (
            f"{name}: begins with the mark of {encoding}, and byte {error.start} behind it is not that: {error.reason}"
        )
        raise UnreadableFileError(told) from None


def _refuse_binary(data: bytes, name: str) -> None:
    start = data[:65536]
    if b"\0" in start:
        raise UnreadableFileError(
            f"{name}: this is a binary file, with zero bytes in it; text in UTF-16 without a mark needs encoding="
        )
    n_controls = len(start) - len(start.translate(None, _CONTROLS))
    if n_controls * 20 > len(start):
        raise UnreadableFileError(
            f"{name}: this is a binary file: {n_controls} of its first {len(start)} bytes are no text"
        )


def _declared(data: bytes, kind: str, notes: list[str]) -> str | None:
    """The codec that the file names for itself; UTF-16 cannot be true of a file in which that could be read."""
    pattern = {"html": _META, "code": _COOKIE}.get(kind)
    match = pattern.search(data[:_DECLARED_WITHIN]) if pattern else None
    if match is None:
        return None
    label = next(group for group in match.groups() if group).decode("ascii", "replace")
    try:
        codec = codecs.lookup(label).name
    except LookupError:
        notes.append(f"the file declares the encoding {label!r}, which is not known")
        return None
    if codec.startswith(("utf-16", "utf-32")):
        return "utf-8"
    return _READ_AS.get(codec, codec) if kind == "html" else codec


def _western(data: bytes) -> tuple[str, str]:
    try:
        return "cp1252", data.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1", data.decode("latin-1")
