"""The statement that appends to a thread on PostgreSQL.

Its first part locks the log and tells the seqs, the others go by what that returns.

A statement that waited for the lock sees the log as the one before it left it: PostgreSQL evaluates the first part anew
on the row's newest version (READ COMMITTED). Where the state changes as well, it goes by `write_id` whether the thread
is still the one whose state was read.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from memexllm.storage._sql_schema import FORMAT, Tables

_APPEND = """
WITH moved AS (
    UPDATE {logs} AS log SET next_seq = log.next_seq + :added, message_count = log.message_count + :live,
        version = log.version + 1, write_id = :write_id, updated_at = :now
    FROM {threads} AS thread
    WHERE thread.id = :thread AND log.id = thread.n
        AND (CAST(:user AS VARCHAR) IS NULL OR log.user_id = :user)
        AND (CAST(:expected AS BIGINT) IS NULL OR log.version = :expected)
        AND (SELECT value FROM {meta} WHERE name = 'format') = '{format}'{unchanged}
    RETURNING log.id AS n, CASE WHEN log.parent_id IS NULL THEN log.id ELSE -log.id END AS id,
        log.next_seq - :added AS first, log.version
), added AS (
    INSERT INTO {messages} (log_id, seq, superseded, wire_text, extra_text, tokens_text)
    SELECT moved.id, moved.first + place - 1, old, '{{"seq"\\:' || (moved.first + place - 1) || ',' || wire,
        extra, tokens
    FROM moved, unnest(
        CAST(:olds AS SMALLINT[]), CAST(:wires AS TEXT[]), CAST(:extras AS TEXT[]), CAST(:tokens AS TEXT[])
    ) WITH ORDINALITY AS batch(old, wire, extra, tokens, place)
){counted}{stated}
SELECT version FROM moved"""
_COUNTED = """, counted AS (
    UPDATE {messages} AS earlier SET tokens_text = noted.tokens
    FROM moved, unnest(CAST(:at AS BIGINT[]), CAST(:noted AS TEXT[])) AS noted(seq, tokens)
    WHERE earlier.log_id = moved.id AND earlier.seq = noted.seq
)"""

# What forks read, or a fork, is counted step by step.
_OWN = """
        AND coalesce(log.fork_seq, -1) < :lowest AND coalesce(log.shared_seq, -1) < :lowest"""
_UNCHANGED = " AND log.write_id = :seen"
_STATED = """, stated AS (
    UPDATE {threads} AS changed SET state = :state FROM moved WHERE changed.n = moved.n
)"""
_SEEN = """
SELECT thread.state, log.write_id, log.next_seq FROM {threads} AS thread JOIN {logs} AS log ON log.id = thread.n
WHERE thread.id = :thread"""


def seen_statement(tables: Tables) -> sa.TextClause:
    """A thread's state, and by which write and seq it is known whether that is still the same."""
    return sa.text(_SEEN.format(**_names(tables)))


def quick_statement(tables: Tables, *, counted: bool, stated: bool) -> sa.TextClause:
    names = _names(tables)
    return sa.text(
        _APPEND.format(
            **names,
            format=FORMAT,
            unchanged=(_UNCHANGED if stated else "") + (_OWN if counted else ""),
            counted=_COUNTED.format(**names) if counted else "",
            stated=_STATED.format(**names) if stated else "",
        )
    )


def _names(tables: Tables) -> dict[str, str]:
    quoted = postgresql.dialect().identifier_preparer.format_table  # type: ignore[no-untyped-call]  # SQLAlchemy's own
    return {name: quoted(getattr(tables, name)) for name in ("logs", "threads", "messages", "meta")}
