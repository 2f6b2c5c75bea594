"""Full-text search in a SQL database: the index finds candidates, and they are ranked with their surroundings.

The index (`words`, see `_sql_words.py`) is derived data: a row for each live message that says something, caught up
when somebody searches; whatever deletes or changes a message does so here as well. Ranking is that of `_searching.py`,
over the candidates and what was said beside them, so a search here and a scan elsewhere order alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import sqlalchemy as sa

from memexllm.core.flow import Flow
from memexllm.core.hits import MessageHit
from memexllm.core.models import Message
from memexllm.storage._rows import decode_messages
from memexllm.storage._searching import Query, ranked
from memexllm.storage._sql_chains import chain_of, rows_of, runs_of
from memexllm.storage._sql_names import read
from memexllm.storage._sql_operation import Operation
from memexllm.storage._sql_transaction import Transaction, joined
from memexllm.storage._sql_words import condition, index, log_term, user_term, words_of

MESSAGES_AT_ONCE = 2000
"""How many messages one transaction indexes; their threads' writers wait for it."""
_LOGS_AT_ONCE = 100
_LEAST_CANDIDATES, _MOST_CANDIDATES = 200, 1000
_REACH = 12
"""How far from a message its neighbours are looked for: messages that say nothing may lie in between."""
_BESIDE = 2
"""How many on each side are ranked with it: its neighbours, and theirs, by which their length is judged."""
_PASSES = 1000
_TEXTS = ["superseded", "tokens_text", "wire_text", "extra_text"]


class Scope(NamedTuple):
    """Whose messages are searched; None is everybody's."""

    thread_id: str | None
    user_id: str | None


def search(
    perform: Callable[[Operation[Any]], Flow[Any]], query: Query, thread_id: str | None, user_id: str | None
) -> Flow[list[MessageHit]]:
    scope = Scope(thread_id, user_id)
    found = yield from perform(Operation("search messages", "snapshot", lambda tx: _find(tx, scope, query, True)))
    if found is None:
        # Others may write faster than this one reads: what is newer than the last pass is left to the next search.
        for _ in range(_PASSES):
            if (yield from perform(Operation("search messages", "write", lambda tx: catch_up(tx, scope)))):
                break
        found = yield from perform(Operation("search messages", "snapshot", lambda tx: _find(tx, scope, query, False)))
    n_messages, stretches = found
    hits: list[MessageHit] = ranked(query, stretches, n_messages)
    return hits


def catch_up(tx: Transaction, scope: Scope) -> bool:
    """Index what waits, at most `MESSAGES_AT_ONCE` messages of it; whether that was all."""
    logs, messages = tx.tables.logs, tx.tables.messages
    # From the newest on, as all who lock several do: forks before what they read.
    waiting = _behind(tx, scope).order_by(logs.c.id.desc()).limit(_LOGS_AT_ONCE)
    of = None if tx.sql.dialect.is_mysql else logs
    room = MESSAGES_AT_ONCE
    rows = tx.execute(waiting.with_for_update(of=of)).fetchall()
    for log_id, next_seq, searchable, user, parent_id in rows:
        if room <= 0:
            return False
        upto = min(next_seq, searchable + room)
        room -= max(1, upto - searchable)
        if parent_id is None:
            live = (
                sa.select(messages.c.seq, messages.c.wire_text, messages.c.extra_text)
                .where(messages.c.log_id == log_id, messages.c.seq >= searchable, messages.c.seq < upto)
                .where(messages.c.superseded == 0)
            )
            index(tx, log_id, user, tx.execute(live).fetchall())
        else:
            index(tx, log_id, user, _live_of_fork(tx, log_id, searchable, upto))
        tx.execute(logs.update().where(logs.c.id == log_id).values(searchable=upto))
        if upto < next_seq:
            return False
    return len(rows) < _LOGS_AT_ONCE


def _live_of_fork(tx: Transaction, log_id: int, low: int, high: int) -> list[Any]:
    """(seq, wire_text, extra_text)"""
    while True:
        chain = chain_of(tx, log_id) or []
        rows = rows_of(tx, chain, ["wire_text", "extra_text"], low - 1, high, live=True)
        # Its own log is locked, those above it are not.
        if chain_of(tx, log_id) == chain:
            return [(seq, *texts) for *texts, seq in rows]


def _behind(tx: Transaction, scope: Scope) -> Any:
    logs = tx.tables.logs
    found = sa.select(logs.c.id, logs.c.next_seq, logs.c.searchable, logs.c.user_id, logs.c.parent_id)
    return _in_scope(tx, found.where(logs.c.next_seq > logs.c.searchable), scope)


def _in_scope(tx: Transaction, found: Any, scope: Scope) -> Any:
    logs = tx.tables.logs
    if scope.thread_id is not None:
        found = found.where(logs.c.id == _thread_row(tx, Scope(scope.thread_id, None)).scalar_subquery())
    if scope.user_id is not None:
        found = found.where(logs.c.user_id == tx.user_fields(scope.user_id)["user_id"])
    return found


_Found = tuple[int, list[tuple[str, list[Message]]]]


def _find(tx: Transaction, scope: Scope, query: Query, current: bool) -> _Found | None:
    """How many messages there are, and the candidates with what was said beside them, in stretches.

    None when the index is behind and has to be `current`.
    """
    if current and tx.execute(_behind(tx, scope).limit(1)).fetchone() is not None:
        return None
    mark = None
    if scope.user_id is not None:
        mark = user_term(tx.user_fields(scope.user_id)["user_id"])
    if scope.thread_id is not None:
        log = tx.execute(_thread_row(tx, scope)).fetchone()
        if log is None:
            return 0, []
        mark = log_term(log[0])
    if not query.phrases:
        return 0, []
    words = words_of(tx)
    matches, fits = condition(words, query, mark, on_postgresql=tx.sql.dialect.name == "postgresql")
    best = sa.select(words.c.log_id, words.c.seq).where(matches)
    best = best.order_by(sa.desc(fits), words.c.log_id.desc(), words.c.seq.desc())
    candidates: dict[int, list[int]] = defaultdict(list)
    for log_id, seq in tx.execute(best.limit(min(max(_LEAST_CANDIDATES, 3 * query.limit), _MOST_CANDIDATES))):
        candidates[log_id].append(seq)
    if not candidates:
        return 0, []
    return _n_messages(tx, scope), _stretches(tx, candidates)


def _n_messages(tx: Transaction, scope: Scope) -> int:
    logs = tx.tables.logs
    counted = _in_scope(tx, sa.select(sa.func.sum(logs.c.message_count)), scope)
    return int(tx.execute(counted).scalar_one() or 0)


def _thread_row(tx: Transaction, scope: Scope) -> Any:
    threads = tx.tables.threads
    found = sa.select(threads.c.n).where(threads.c.id == tx.sql.name(scope.thread_id).key)
    if scope.user_id is not None:
        found = found.where(threads.c.user_id == tx.user_fields(scope.user_id)["user_id"])
    return found


def _stretches(tx: Transaction, candidates: dict[int, list[int]]) -> list[tuple[str, list[Message]]]:
    threads, messages = tx.tables.threads, tx.tables.messages
    named = sa.select(threads.c.n, threads.c.id, threads.c.whole_id).where(threads.c.n.in_(list(candidates)))
    ids = {n: read(key, whole) for n, key, whole in tx.execute(named)}
    chosen = _with_neighbours(tx, words_of(tx), candidates)
    c = messages.c
    wanted = [sa.and_(c.log_id == log, c.seq.in_([seq for run in runs for seq in run])) for log, runs in chosen.items()]
    found = sa.select(c.log_id, c.seq, c.superseded, c.tokens_text, c.wire_text, c.extra_text).where(sa.or_(*wanted))
    rows = {(row[0], row[1]): row[2:] for row in tx.execute(found)}
    logs = tx.tables.logs
    forks = sa.select(logs.c.id).where(logs.c.id.in_(list(chosen)), logs.c.parent_id.is_not(None))
    for log in tx.execute(forks).scalars().all():
        rows |= _rows_of_fork(tx, log, chosen[log])
    stretches: list[tuple[str, list[Message]]] = []
    for log in sorted(chosen):
        for run in chosen[log]:
            texts = joined([rows[log, seq] for seq in run if (log, seq) in rows], wire=False)
            stretches.append((ids[log], decode_messages(ids[log], texts)))
    return stretches


def _rows_of_fork(tx: Transaction, log: int, runs: list[list[int]]) -> dict[tuple[int, int], Any]:
    chain = chain_of(tx, log) or []
    rows: dict[tuple[int, int], Any] = {}
    for run in runs:
        found = rows_of(tx, chain, _TEXTS, run[0] - 1, run[-1] + 1)
        rows.update({(log, seq): texts for *texts, seq in found})
    return rows


def _with_neighbours(tx: Transaction, words: sa.Table, candidates: dict[int, list[int]]) -> dict[int, list[list[int]]]:
    """By log, stretches of seqs that follow one another in the index."""
    c = words.c
    around = {
        log: runs_of(near for seq in seqs for near in range(max(0, seq - _REACH), seq + _REACH + 1))
        for log, seqs in candidates.items()
    }
    wanted = [
        sa.and_(c.log_id == log, sa.or_(*(c.seq.between(low, high) for low, high in runs)))
        for log, runs in around.items()
    ]
    indexed: dict[int, list[int]] = defaultdict(list)
    for log, seq in tx.execute(sa.select(c.log_id, c.seq).where(sa.or_(*wanted)).order_by(c.log_id, c.seq)):
        indexed[log].append(seq)
    chosen: dict[int, list[list[int]]] = {}
    for log, seqs in candidates.items():
        chosen[log] = []
        for low, high in around[log]:
            row = [seq for seq in indexed[log] if low <= seq <= high]
            places = [place for place, seq in enumerate(row) if seq in set(seqs)]
            near = runs_of(each for place in places for each in range(place - _BESIDE, place + _BESIDE + 1))
            chosen[log].extend(row[max(0, first) : last + 1] for first, last in near)
    return chosen
