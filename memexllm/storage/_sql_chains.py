"""A fork's log reads its parent's up to a seq, that one its own parent's, and so on: a chain of logs, the own first.

As in SQLite (`_sqlite_chains.py`): of the rows of one seq the nearest log's counts, and a row that several threads read
is copied before it is changed, into the log of the thread that changes it and into the logs of its forks. Appends need
nothing of this.

The messages of a log that reads another one lie under its negative id. So the statement that reads a thread finds none
of a fork's, and threads that are no forks pay nothing. A log keeps its `fork_seq` when it stops reading others.
`shared_seq` is as far as forks may read a log, or have read it.

Who changes or forks what several threads read has locked the chain, from its own log upwards: so all lock in one order.
A log whose thread is gone and that forks still read is *left*: its `next_seq` is 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from memexllm.storage._sql_schema import BEYOND

if TYPE_CHECKING:
    from memexllm.storage._sql_statements import Statement, Statements
    from memexllm.storage._sql_transaction import Transaction


@dataclass(slots=True)
class Log:
    """A thread's log, locked until the transaction ends."""

    id: int
    next_seq: int
    message_count: int
    version: int
    write_id: int
    searchable: int
    user: str | None
    """The key of its user."""
    parent_id: int | None = None
    fork_seq: int | None = None
    shared_seq: int | None = None

    @property
    def rows(self) -> int:
        """What its messages have in the column `log_id`."""
        return rows_id(self.id, self.parent_id)

    @property
    def is_shared(self) -> bool:
        """Whether the log reads another one, or forks may read it."""
        return self.parent_id is not None or self.shared_seq is not None


class Level(NamedTuple):
    """A log of a chain, what its messages have in the column `log_id`, and the last seq that is read of it."""

    log_id: int
    rows: int
    high: int


def rows_id(log_id: int, parent_id: int | None) -> int:
    return log_id if parent_id is None else -log_id


def locked_chain(tx: Transaction, log: Log, last_seq: int = BEYOND) -> list[Level]:
    """The log itself and those it reads, as far as they hold seqs up to `last_seq`."""
    chain = [Level(log.id, log.rows, last_seq)]
    above, high = log.parent_id, log.fork_seq
    while above is not None:
        parent_id, fork_seq = _lock(tx, above)
        last_seq = last_seq if high is None else min(last_seq, high)
        chain.append(Level(above, rows_id(above, parent_id), last_seq))
        above, high = parent_id, fork_seq
    return chain


def chain_of(tx: Transaction, log: int | str) -> list[Level] | None:
    """The chain of a log or of a thread as it is now, not locked; None for a log that never read another one."""
    of_thread = isinstance(log, str)
    named = {"thread": tx.sql.name(log).key} if of_thread else {"log": log}
    levels: list[Level] = []
    high = BEYOND
    for each, parent_id, fork_seq in tx.fetch(_chain(tx.sql, of_thread=of_thread), named):
        levels.append(Level(each, rows_id(each, parent_id), high))
        high = high if fork_seq is None else min(high, fork_seq)
    return levels or None


def rows_of(
    tx: Transaction,
    chain: Sequence[Level],
    what: Sequence[str],
    low: int = -1,
    high: int = BEYOND,
    *,
    live: bool = False,
    newest: bool = False,
    limit: int | None = None,
    offset: int = 0,
) -> list[Any]:
    """(the columns `what`, seq) of what the chain shows between two seqs (exclusive), in order, or newest first."""
    statement = _rows(tx.sql, len(chain), tuple(what), live, newest, limit, offset)
    values: dict[str, int] = {}
    for depth, level in enumerate(chain):
        values |= {f"rows_{depth}": level.rows, f"high_{depth}": min(high, level.high + 1)}
    return list(tx.fetch(statement, {"low": low, **values}))


def count_live(tx: Transaction, chain: Sequence[Level], low: int = -1, high: int = BEYOND) -> int:
    """How many live messages the chain shows between two seqs (exclusive)."""
    count = 0
    for depth, level in enumerate(chain):
        c = tx.tables.messages.alias("counted").c
        end = min(high, level.high + 1)
        found = sa.select(sa.func.count(c.seq)).where(*_between(tx.sql, c, level.rows, low, end), c.superseded == 0)
        if depth:
            found = found.where(~_covered(tx.sql, [each.rows for each in chain[:depth]], c.seq))
        count += int(tx.execute(found).scalar_one())
    return count


def copy_rows(tx: Transaction, chain: Iterable[Level], rows: int, low: int = 0, high: int = BEYOND) -> None:
    """Copy what `chain` shows, from its nearest log on, as far as there are no messages of these seqs under `rows`."""
    messages, source, own = tx.tables.messages, tx.tables.messages.alias("source"), tx.tables.messages.alias("own")
    names = [column.name for column in messages.c]
    for level in chain:
        if low > min(high, level.high):
            continue
        has = sa.exists().where(own.c.log_id == rows, own.c.seq == source.c.seq)
        target = sa.literal(rows, messages.c.log_id.type).label("log_id")
        copied = sa.select(target, *(source.c[name] for name in names[1:])).where(
            source.c.log_id == level.rows, source.c.seq.between(low, min(high, level.high)), ~has
        )
        tx.execute(messages.insert().from_select(names, copied))


def claim(tx: Transaction, log: Log, runs: Iterable[tuple[int, int]]) -> None:
    """Make the messages of these seqs the log's own: what is written to them now is seen by its thread alone."""
    inherited = log.fork_seq if log.parent_id is not None and log.fork_seq is not None else -1
    last = max(inherited, -1 if log.shared_seq is None else log.shared_seq)
    wanted = [(low, min(high, last)) for low, high in runs if low <= last]
    if not wanted:
        return
    own, *above = locked_chain(tx, log)
    forks = _forks_of(tx, log.id)
    for low, high in wanted:
        copy_rows(tx, above, log.rows, low, high)
        for fork in forks:
            if fork.high >= low:
                copy_rows(tx, [own._replace(high=fork.high)], fork.rows, low, high)


def detach(tx: Transaction, log: Log, first_seq: int = 0) -> None:
    """Make the log one that shares nothing, with its messages from `first_seq` on; what forks read goes elsewhere."""
    own, *above = locked_chain(tx, log)
    logs, c = tx.tables.logs, tx.tables.messages.c
    forks, left_id = _forks_of(tx, log.id), log.parent_id
    if forks:
        read_up_to = max(fork.high for fork in forks)
        values = {"parent_id": log.parent_id, "fork_seq": log.fork_seq, "shared_seq": read_up_to}
        left_id = tx.insert_log(user_id=None, next_seq=0, message_count=0, version=0, **values)
        copy_rows(tx, [own], rows_id(left_id, log.parent_id), 0, read_up_to)
        tx.execute(logs.update().where(logs.c.parent_id == log.id).values(parent_id=left_id))
    if above:
        copy_rows(tx, above, log.rows, first_seq)
        tx.execute(tx.tables.messages.update().where(c.log_id == log.rows).values(log_id=log.id))
    log.parent_id = log.shared_seq = None
    tx.note(log, parent_id=None, shared_seq=None)
    if left_id is not None:
        release(tx, left_id)


def release(tx: Transaction, log_id: int) -> None:
    """Of logs that are left: one goes with its last reader, and until then keeps what forks read, and no more."""
    logs, c = tx.tables.logs, tx.tables.messages.c
    above: int | None = log_id
    known: dict[int, set[int]] = {}
    while above is not None:
        found = sa.select(logs.c.next_seq, logs.c.parent_id, logs.c.fork_seq).where(logs.c.id == above)
        next_seq, parent_id, fork_seq = tx.execute(found).one()
        if next_seq:
            return
        forks, rows = _forks_of(tx, above), rows_id(above, parent_id)
        read_up_to = max((fork.high for fork in forks), default=-1)
        tx.execute(tx.tables.messages.delete().where(c.log_id == rows, c.seq > read_up_to))
        if forks:
            ends = fork_seq if fork_seq is None else min(fork_seq, read_up_to)
            tx.execute(logs.update().where(logs.c.id == above).values(fork_seq=ends, shared_seq=read_up_to))
            _drop_unread(tx, rows, _unread(tx, above, None, known))
        else:
            tx.execute(logs.delete().where(logs.c.id == above))
        above = parent_id


def drop_covered(tx: Transaction, log: Log, seq: int) -> None:
    """Delete the messages of this seq further up the chain that nobody reads any more: a secret may be in them."""
    if log.parent_id is None or log.fork_seq is None or seq > log.fork_seq:
        return
    logs = tx.tables.logs
    for level in locked_chain(tx, log)[1:]:
        if not tx.execute(sa.select(logs.c.next_seq).where(logs.c.id == level.log_id)).scalar_one():
            _drop_unread(tx, level.rows, _unread(tx, level.log_id, seq, {}))


class _Fork(NamedTuple):
    log_id: int
    rows: int
    high: int
    is_left: bool


def _forks_of(tx: Transaction, log_id: int) -> list[_Fork]:
    logs = tx.tables.logs
    found = sa.select(logs.c.id, logs.c.fork_seq, logs.c.next_seq).where(logs.c.parent_id == log_id)
    return [_Fork(each, -each, fork_seq, not next_seq) for each, fork_seq, next_seq in tx.execute(found)]


def _drop_unread(tx: Transaction, rows: int, unread: set[int]) -> None:
    """Delete what a log that is left has in vain: its forks have messages of their own there."""
    c = tx.tables.messages.c
    for first, last in runs_of(unread):
        tx.execute(tx.tables.messages.delete().where(c.log_id == rows, c.seq.between(first, last)))


def _unread(tx: Transaction, log_id: int, seq: int | None, known: dict[int, set[int]]) -> set[int]:
    """Seqs at which no thread reads what a log that is left has or inherits, of those that forks of it cover.

    At one seq or at all. `known` takes what is found, by log: those further up ask for it again.
    """
    if log_id in known:
        return known[log_id]
    c = tx.tables.messages.c
    covers: list[tuple[int, set[int]]] = []
    for fork in _forks_of(tx, log_id):
        wanted = c.seq <= fork.high if seq is None else sa.and_(c.seq == seq, c.seq <= fork.high)
        own = set(tx.execute(sa.select(c.seq).where(c.log_id == fork.rows, wanted)).scalars())
        covers.append((fork.high, own | _unread(tx, fork.log_id, seq, known) if fork.is_left else own))
    candidates = set().union(*(seqs for _, seqs in covers))
    known[log_id] = {each for each in candidates if all(each > high or each in seqs for high, seqs in covers)}
    return known[log_id]


def runs_of(seqs: Iterable[int]) -> list[tuple[int, int]]:
    """First and last of the stretches that these seqs lie in."""
    runs: list[tuple[int, int]] = []
    for seq in sorted(set(seqs)):
        if runs and seq == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], seq)
        else:
            runs.append((seq, seq))
    return runs


def _lock(tx: Transaction, log_id: int) -> tuple[int | None, int | None]:
    """Lock a log until the transaction ends; which one it reads, and up to where."""
    logs = tx.tables.logs
    found = sa.select(logs.c.parent_id, logs.c.fork_seq).where(logs.c.id == log_id)
    if tx.sql.dialect.locks:
        found = found.with_for_update()
    else:
        tx.execute(logs.update().where(logs.c.id == log_id).values(write_id=logs.c.write_id))
    parent_id, fork_seq = tx.execute(found).one()
    return parent_id, fork_seq


@lru_cache(maxsize=256)
def _chain(sql: Statements, *, of_thread: bool) -> Statement:
    logs, up = sql.tables.logs, sql.tables.logs.alias("up")
    wanted: Any = sql.log_of_thread if of_thread else sa.bindparam("log", type_=logs.c.id.type)
    found = sa.select(logs.c.id, logs.c.parent_id, logs.c.fork_seq, sa.literal_column("0", sa.Integer).label("depth"))
    chain = found.where(logs.c.id == wanted, logs.c.fork_seq.is_not(None)).cte("chain", recursive=True)
    depth = chain.c.depth + sa.literal_column("1", sa.Integer)
    above = sa.select(up.c.id, up.c.parent_id, up.c.fork_seq, depth).where(up.c.id == chain.c.parent_id)
    whole = chain.union_all(above)
    return sql.prepared(sa.select(whole.c.id, whole.c.parent_id, whole.c.fork_seq).order_by(whole.c.depth))


@lru_cache(maxsize=256)
def _rows(
    sql: Statements, n_levels: int, what: tuple[str, ...], live: bool, newest: bool, limit: int | None, offset: int
) -> Statement:
    """Of each log no more than is wanted in all, so that the newest of a long thread cost what they are."""
    kind = sql.tables.messages.c.seq.type
    rows, highs = (
        [sa.bindparam(f"{name}_{depth}", type_=kind) for depth in range(n_levels)] for name in ("rows", "high")
    )
    wanted = None if limit is None else limit + offset
    parts: list[Any] = []
    for depth in range(n_levels):
        c = sql.tables.messages.alias(f"level_{depth}").c
        part = sa.select(*(c[name].label(name) for name in what), c.seq.label("place"))
        part = part.where(*_between(sql, c, rows[depth], sa.bindparam("low", type_=kind), highs[depth]))
        if live:
            part = part.where(c.superseded != sa.literal_column("1"))
        if depth:
            part = part.where(~_covered(sql, rows[:depth], c.seq))
        order = [c.log_id, c.seq]
        part = part.order_by(*([each.desc() for each in order] if newest else order))
        if n_levels == 1:
            return sql.prepared(part.limit(_literal(limit)).offset(_literal(offset or None)))
        parts.append(sa.select(part.limit(_literal(wanted)).subquery()))
    found = sa.union_all(*parts).subquery()
    ordered = sa.select(found).order_by(found.c.place.desc() if newest else found.c.place)
    return sql.prepared(ordered.limit(_literal(limit)).offset(_literal(offset or None)))


def _between(sql: Statements, c: Any, rows: Any, low: Any, high: Any) -> list[Any]:
    """As `Statements.between`."""
    if sql.dialect.name == "postgresql":
        pairs = (sa.tuple_(*(_bound(each, c.seq.type) for each in pair)) for pair in ((rows, low), (rows, high)))
        return [sa.tuple_(c.log_id, c.seq) > next(pairs), sa.tuple_(c.log_id, c.seq) < next(pairs)]
    return [c.log_id == rows, c.seq > low, c.seq < high]


def _bound(value: Any, kind: Any) -> Any:
    return sa.literal(value, kind) if isinstance(value, int) else value


def _covered(sql: Statements, nearer: Sequence[Any], seq: Any) -> Any:
    """Whether a nearer log has a message of this seq."""
    other = sql.tables.messages.alias("nearer")
    return sa.exists().where(sa.or_(*(other.c.log_id == rows for rows in nearer)), other.c.seq == seq)


def _literal(number: int | None) -> Any:
    # In the text of the statement: PostgreSQL plans anew for each limit that it does not know.
    return None if number is None else sa.literal_column(str(number), sa.Integer)
