"""Which keys hold a thread, and which the lists.

All keys of a thread share one hash tag, `{prefix:thread:<name>}`, and so one slot of a cluster; those of the lists
share another, `{prefix:index}`. A name is the id itself behind a `=`, with `%`, `:`, `{`, `}` and line ends
percent-encoded, so that no id ends the tag early or reaches a key of another; a long id is a `#` and its hash.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from memexllm.core.errors import ConfigurationError, ValidationError

_ESCAPES = {ord(sign): f"%{ord(sign):02X}" for sign in "%:{}\n"}
_LONGEST_NAME = 200
"""In bytes; an id that is longer would be paid for in six keys and the lists."""


def checked_prefix(prefix: Any) -> str:
    if not isinstance(prefix, str) or not prefix or any(sign in prefix for sign in "{}"):
        raise ConfigurationError(
            f"prefix is a text that is not empty and holds no braces, got {prefix!r}: "
            "it stands inside the hash tag of every key"
        )
    try:
        prefix.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(f"prefix {prefix!r} holds a lone surrogate, which no key can") from None
    return prefix


def name_of(given: Any, what: str = "thread id") -> str:
    """How an id is written in keys: never empty, and without a sign that means something there."""
    if not isinstance(given, str):
        raise ValidationError(f"{what} must be a string, got {type(given).__name__}")
    name = given.translate(_ESCAPES)
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ValidationError(f"{what} {given!r} holds a lone surrogate, which no database can store") from None
    return f"={name}" if size <= _LONGEST_NAME else f"#{blake2b(given.encode(), digest_size=32).hexdigest()}"


def owner_of(user_id: str | None) -> str:
    """The name of a user; empty for nobody."""
    return "" if user_id is None else name_of(user_id, "user id")


class Keys:
    """The keys under one prefix."""

    def __init__(self, prefix: str) -> None:
        self.index = f"{{{prefix}:index}}".encode()
        self.heads = f"{{{prefix}:thread:"
        """What stands before the name in the keys of a thread; a brace and a colon follow it."""

    def tag(self, name: str) -> str:
        return f"{self.heads}{name}}}:"

    def head(self, name: str) -> bytes:
        """The key that scripts are given: they know what lies beside it (`_redis_scripts.py`)."""
        return f"{self.heads}{name}}}:head".encode()

    def listed(self, name: str) -> tuple[bytes, bytes, bytes]:
        """head, state, live: what lists read of a thread that lies elsewhere."""
        tag = self.tag(name)
        return f"{tag}head".encode(), f"{tag}state".encode(), f"{tag}live".encode()
