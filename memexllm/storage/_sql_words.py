"""The full-text index of a SQL database, row by row: the terms of a message as PostgreSQL and MySQL take them.

A term is a word's stem behind "w_", or, when it has other signs than a to z and digits, its bytes behind "x_". So no
server takes it apart, drops it for being short or common, or reads it as syntax. Two more terms say whose it is: "l_"
and the log, "u_" and its user. Searching looks for them as well, and the index itself tells threads and users apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.mysql import match
from sqlalchemy.dialects.postgresql import TSQUERY

from memexllm.core import jsontext
from memexllm.storage._rows import decode_wire
from memexllm.storage._searching import Query, said
from memexllm.storage._sql_transaction import Transaction
from memexllm.storage._words import stemmed, stems_of

MOST_TERMS = 20_000
"""Of a message; the rest of it is not found."""
_LONGEST_TERM = 72
"""MySQL's own limit is 84, PostgreSQL's 2046."""
# https://www.postgresql.org/docs/current/textsearch-limitations.html
_LAST_POSITION, _MOST_POSITIONS, _MOST_CHARS = 16_383, 255, 700_000


@lru_cache(maxsize=1 << 16)
def term_of(stem: str) -> str:
    term = f"w_{stem}" if stem.isascii() and stem.isalnum() else f"x_{stem.encode().hex()}"
    return term if len(term) <= _LONGEST_TERM else f"h_{sha256(stem.encode()).hexdigest()[:32]}"


def log_term(log_id: int) -> str:
    return f"l_{log_id}"


def user_term(user: str) -> str:
    """`user` is the key of a user's name."""
    return f"u_{sha256(user.encode()).hexdigest()[:24]}"


def _text_of(thread_id: str, wire_text: str, extra_text: str | None) -> str:
    """What a message says, with its speaker; empty when it says nothing."""
    (row,) = decode_wire(thread_id, wire_text)
    extra = jsontext.loads(extra_text) if extra_text is not None and '"speaker"' in extra_text else {}
    return said(row["wire"], extra.get("metadata") or {})


def _terms_of(text: str, marks: Sequence[str], *, on_postgresql: bool) -> str:
    """The value of the column `terms`."""
    terms = [term_of(stem) for stem in islice(stemmed(text), MOST_TERMS)]
    return _tsvector(terms, marks) if on_postgresql else " ".join([*marks, *terms])


def _tsvector(terms: Sequence[str], marks: Sequence[str]) -> str:
    places: dict[str, list[str]] = {}
    chars = 0
    for place, term in enumerate(terms, 1):
        found = places.get(term)
        if found is None:
            chars += len(term)
            if chars > _MOST_CHARS:
                break
            found = places[term] = []
        if len(found) < _MOST_POSITIONS:
            found.append(str(min(place, _LAST_POSITION)))
    return " ".join([*marks, *(f"{term}:{','.join(found)}" for term, found in places.items())])


def words_of(tx: Transaction) -> sa.Table:
    """The table of the index, for those who have made sure that there is one."""
    words = tx.tables.words
    if words is None:
        raise TypeError(f"there is no full-text index on {tx.sql.dialect.name}")
    return words


def index(tx: Transaction, log_id: int, user: str | None, rows: Iterable[Sequence[Any]]) -> None:
    """Rows of (seq, wire_text, extra_text) that are not in the index."""
    on_postgresql = tx.sql.dialect.name == "postgresql"
    marks = [log_term(log_id), *([] if user is None else [user_term(user)])]
    found: list[dict[str, Any]] = []
    for seq, wire_text, extra_text in rows:
        text = _text_of("", wire_text, extra_text)
        if text:
            found.append({"log_id": log_id, "seq": seq, "terms": _terms_of(text, marks, on_postgresql=on_postgresql)})
    if found:
        tx.execute(words_of(tx).insert(), found)


def condition(words: sa.Table, query: Query, mark: str | None, *, on_postgresql: bool) -> tuple[Any, Any]:
    """Whether a row holds something of the query, and how well it fits."""
    phrases = [[term_of(stem) for stem in stems_of(phrase)] for phrase in query.phrases]
    if on_postgresql:
        wanted = " | ".join(f"({' <-> '.join(phrase)})" for phrase in phrases)
        narrowed = wanted if mark is None else f"{mark} & ({wanted})"
        matches = words.c.terms.op("@@")(sa.cast(sa.literal(narrowed, sa.Text), TSQUERY))
        return matches, sa.func.ts_rank(words.c.terms, sa.cast(sa.literal(wanted, sa.Text), TSQUERY))
    quoted = " ".join(phrase[0] if len(phrase) == 1 else f'"{" ".join(phrase)}"' for phrase in phrases)
    wanted = quoted if mark is None else f"+{mark} +({quoted})"
    fits = match(words.c.terms, against=wanted).in_boolean_mode()
    return fits, fits
