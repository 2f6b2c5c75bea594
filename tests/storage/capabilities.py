"""What each storage of the package does of the contract: the table in the reference, made of reports of the kit.

`python -m tests.storage.capabilities` runs the kit on all of them, on their servers, and writes the table (four
minutes); `test_capabilities.py` compares.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memexllm.testing.report import Report, examine

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "reference" / "storages.md"
BEGIN, END = "<!-- capabilities: written by tests/storage/capabilities.py -->", "<!-- end of capabilities -->"
# Tests for another kind of storage, which say nothing of this one.
ELSEWHERE = ("packed fields bind", "cancellation binds")


@dataclass(frozen=True)
class Column:
    """A storage under the name it has in the table: its class, the tests that hold its laws, and pytest's options."""

    title: str
    kind: str
    tests: str
    options: tuple[str, ...] = ()

    def report(self) -> Report:
        return examine(f"{HERE / self.tests}", *self.options)


COLUMNS = (
    Column("`MemoryStorage`", "memexllm.storage:MemoryStorage", "test_builtin.py::TestMemoryStorage"),
    Column("`SQLiteStorage`", "memexllm.storage:SQLiteStorage", "test_builtin.py::TestSQLiteStorage"),
    Column(
        "`SQLStorage`, PostgreSQL", "memexllm.storage:SQLStorage", "test_sql.py::TestSQLStorage", ("-k", "postgres")
    ),
    Column("`SQLStorage`, MariaDB", "memexllm.storage:SQLStorage", "test_sql.py::TestSQLStorage", ("-k", "mariadb")),
    Column(
        "`RedisStorage`, Valkey", "memexllm.storage:RedisStorage", "test_redis.py::TestRedisStorage", ("-k", "valkey")
    ),
    Column("four methods", "tests.storage.custom:LiveDictStorage", "test_custom.py::TestLiveDictStorage"),
)


def cells(report: Report) -> dict[str, str]:
    """One column of the table, by the titles of its rows; of a report without broken laws."""
    found = dict(report.abilities)
    for title, law in report.named_laws():
        missing = [reason for reason in law.skipped if not reason.startswith(ELSEWHERE)]
        found[title] = "in part" if missing and law.passed else "not bound" if missing else "kept"
    return found


def table(columns: Mapping[str, Mapping[str, str]]) -> str:
    titles = list(dict.fromkeys(title for column in columns.values() for title in column))
    lines = [f"| of the contract | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    lines += [f"| {title} | {' | '.join(each.get(title, '') for each in columns.values())} |" for title in titles]
    return "\n".join(lines)


def columns_of(page: str) -> dict[str, dict[str, str]]:
    """The table on a page, read back."""
    _, _, rest = page.partition(BEGIN)
    rows = [
        line.removeprefix("| ").removesuffix(" |").split(" | ")
        for line in rest.partition(END)[0].splitlines()
        if line.startswith("| ")
    ]
    heads = rows[0]
    return {head: {row[0]: row[place] for row in rows[1:]} for place, head in enumerate(heads) if place}


def with_table(page: str, columns: Mapping[str, Mapping[str, str]]) -> str:
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{table(columns)}\n\n{END}{after}"


def main() -> None:
    columns: dict[str, Any] = {}
    for column in COLUMNS:
        report = column.report()
        if report.broken:
            sys.exit(f"{column.title} breaks laws, and no table is written of that:\n{report}")
        columns[column.title] = cells(report)
    PAGE.write_text(with_table(PAGE.read_text("utf-8"), columns), "utf-8")


if __name__ == "__main__":
    main()
