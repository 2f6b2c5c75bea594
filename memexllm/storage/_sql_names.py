"""Names as they lie in a SQL database: of any length and with any character, and looked up by an index.

A column that is looked up has at most `KEY_CHARS` characters. A name that needs more is cut there and told apart by its
hash; the whole of it lies in a column beside it. NUL, which PostgreSQL's text cannot hold, and a blank at the end,
which MySQL's comparison does not see, are written with a backslash.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any, NamedTuple

from memexllm.core.errors import ValidationError

KEY_CHARS = 255
_LONGEST_WHOLE = 180
_ESCAPED = re.compile(r"\\(.)")
_MEANING = {"\\": "\\", "0": "\x00", "s": " "}


class Name(NamedTuple):
    """`key` identifies it, also among names too long for a key; `whole` is those names' escaped text."""

    key: str
    whole: str | None


def stored(name: Any, what: str = "thread id") -> Name:
    """The name as it is stored; a `ValidationError` when it is no text that UTF-8 can express."""
    text = escaped(name, what)
    if len(text) <= _LONGEST_WHOLE:
        return Name(text, None)
    # No escaped text holds a backslash before another sign than those of `_MEANING`: no short name is equal to this.
    return Name(f"{text[:_LONGEST_WHOLE]}\\#{sha256(text.encode()).hexdigest()}", text)


def hashed(name: Any, what: str = "thread id") -> Name:
    """As `stored`, for databases of which it is not known whether they compare texts exactly."""
    text = escaped(name, what)
    return Name(sha256(text.encode()).hexdigest(), text)


def read(key: str, whole: str | None) -> str:
    """The name that was stored."""
    return unescaped(key if whole is None else whole)


def escaped(text: Any, what: str) -> str:
    if not isinstance(text, str):
        raise ValidationError(f"a {what} is a string, not {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValidationError(f"the {what} holds a lone surrogate, which no database can store") from None
    if "\\" in text or "\x00" in text:
        text = text.replace("\\", "\\\\").replace("\x00", "\\0")
    return f"{text[:-1]}\\s" if text.endswith(" ") else text


def unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: _MEANING[found[1]], text) if "\\" in text else text
