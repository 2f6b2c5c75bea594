"""Texts and metadata as PostgreSQL can hold them: equal, and in the same order, exactly when they are so in Python.

PostgreSQL's text and JSONB hold no NUL. It is written as two signs that still sort before all others, by character as
the collation "C" does; the sign they begin with is written as two as well, so that no two texts become one.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from memexllm.core import jsontext
from memexllm.core.errors import ValidationError

_RARE = re.compile("[\x00\x01]")
_WRITTEN = re.compile("\x01[\x01\x02]")
_PAIRS = {"\x00": "\x01\x01", "\x01": "\x01\x02"}
_MEANING = {pair: sign for sign, pair in _PAIRS.items()}


def stored(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValidationError("a text holds a lone surrogate, which no database can store") from None
    return _written(text)


def read(text: str) -> str:
    return _WRITTEN.sub(lambda found: _MEANING[found[0]], text) if "\x01" in text else text


def key_of(text: str) -> bytes:
    """What a name of any length is looked up by: 16 bytes."""
    return hashlib.blake2b(stored(text).encode(), digest_size=16).digest()


def lookup_of(value: Any) -> str:
    """JSON text that as JSONB is equal to another value's, and in its order, when `same_json` says so."""
    return jsontext.dumps(_as_jsonb(value), "metadata")


def _as_jsonb(value: Any) -> Any:
    if isinstance(value, dict):
        return {_written(key): _as_jsonb(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_jsonb(item) for item in value]
    if isinstance(value, str):
        return _written(value)
    # What a large float writes is not all of its digits, and another number for JSONB.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _written(text: str) -> str:
    return _RARE.sub(lambda found: _PAIRS[found[0]], text) if "\x00" in text or "\x01" in text else text
