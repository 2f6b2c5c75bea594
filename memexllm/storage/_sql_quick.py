"""An append in one statement, two if it changes the state: on PostgreSQL, to a thread that is there.

The statement (`_sql_quick_statement.py`) changes nothing when the thread is not there, is another user's, or has
another version, or was written to in between; then the append is made step by step, which tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from memexllm.core import jsontext
from memexllm.storage._defaults import resolve_new
from memexllm.storage._rows import Encoded, parsed
from memexllm.storage._sql_changes import Changes
from memexllm.storage._sql_schema import BEYOND
from memexllm.storage._sql_transaction import Transaction, inside

_NULL = "NULL"


def can_append(tx: Transaction, max_messages: int | None, changes: Changes) -> bool:
    """Whether the statement does all that is asked for."""
    if not tx.on_psycopg or max_messages is not None:
        return False
    return not changes.supersede and changes.supersede_from is None


def append(tx: Transaction, thread_id: str, encoded: Sequence[Encoded], n_live: int, changes: Changes) -> int | None:
    """The thread's new version; None when nothing was changed."""
    user_id = (changes.create or {}).get("user_id")
    values: dict[str, Any] = {
        "thread": tx.sql.name(thread_id).key,
        "user": tx.user_fields(user_id)["user_id"],
        "expected": changes.expected_version,
        "added": len(encoded),
        "live": n_live,
        "write_id": tx.write_id,
        "now": tx.now,
        "olds": f"{{{','.join(['1' if each.superseded else '0' for each in encoded])}}}",
        "wires": array_text([each.wire_text[1:] for each in encoded]),
        "extras": array_text([each.extra_text for each in encoded]),
        "tokens": array_text([each.tokens_text for each in encoded]),
    }
    if changes.counts:
        at = inside(changes.counts)
        values["at"] = f"{{{','.join(map(str, at))}}}"
        values["lowest"] = min(at, default=BEYOND)
        values["noted"] = array_text([jsontext.dumps(list(changes.counts[seq])) for seq in at])
    if changes.state:
        seen = tx.fetched(tx.sql.seen, {"thread": values["thread"]})
        if not seen:
            return None
        text, values["seen"], next_seq = seen[0]
        state = {**parsed(thread_id, text), **resolve_new(changes.state, next_seq)}
        values["state"] = jsontext.dumps(state, "state")
    found = tx.fetched(tx.sql.quick[bool(changes.counts), bool(changes.state)], values)
    return int(found[0][0]) if found else None


def array_text(texts: Iterable[str | None]) -> str:
    """An array as PostgreSQL reads it; psycopg writes one sign by sign, which takes longer than the whole statement.

    https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
    """
    return f"{{{','.join([_NULL if each is None else _quoted(each) for each in texts])}}}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
