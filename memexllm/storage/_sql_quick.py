"""An append in one statement, two if it changes the state: on PostgreSQL, to a thread that is there.

The statement (`_sql_quick_statement.py`) changes nothing when the thread is not there, is another user's, or has
another version, or was written to in between; then the append is made step by step, which tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memexllm.core import jsontext
from memexllm.storage._defaults import resolve_new
from memexllm.storage._rows import Encoded, parsed
from memexllm.storage._sql_changes import Changes
from memexllm.storage._sql_schema import BEYOND
from memexllm.storage._sql_transaction import Transaction, inside


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
        "olds": [int(each.superseded) for each in encoded],
        "wires": [each.wire_text[1:] for each in encoded],
        "extras": [each.extra_text for each in encoded],
        "tokens": [each.tokens_text for each in encoded],
    }
    if changes.counts:
        values["at"] = inside(changes.counts)
        values["lowest"] = min(values["at"], default=BEYOND)
        values["noted"] = [jsontext.dumps(list(changes.counts[seq])) for seq in values["at"]]
    if changes.state:
        seen = tx.fetched(tx.sql.seen, {"thread": values["thread"]})
        if not seen:
            return None
        text, values["seen"], next_seq = seen[0]
        state = {**parsed(thread_id, text), **resolve_new(changes.state, next_seq)}
        values["state"] = jsontext.dumps(state, "state")
    found = tx.fetched(tx.sql.quick[bool(changes.counts), bool(changes.state)], values)
    return int(found[0][0]) if found else None
