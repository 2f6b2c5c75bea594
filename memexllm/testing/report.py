"""What a storage does of the contract, found by looking at its class and by running the kit on it.

    python -m memexllm.testing.report my_module:make_storage
    python -m memexllm.testing.report tests/test_my_storage.py::TestMyStorage

`make_storage` is a function or class of yours that returns an empty storage each time it is called. With one parameter
it is given the path of an empty folder, and opens the same store again when it is called with the same folder: then
the laws on several processes and on kills are tried as well. In place of it a test class on `StorageConformance` is
taken, with all the fixtures it has.

The report is a table in Markdown. The command ends with 1 when a law is broken. It needs pytest.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from memexllm.core.errors import ConfigurationError
from memexllm.core.factories import load_factory
from memexllm.storage._listing import list_keywords
from memexllm.storage.port import REQUIRED, overrides

__all__ = ["Report", "examine", "abilities", "table"]

_OWN = {
    "append_messages": "`append_messages`",
    "read_messages": "`read_head`, `read_messages`",
    "replace_message": "`replace_message`",
    "patch_thread": "`patch_thread`",
    "fork_thread": "`fork_thread`",
    "search_messages": "`search_messages`",
    "restore_messages": "`restore_messages`",
    "close": "`close`",
}
_WHOLE = "test_kit_is_whole"
_LAWS = {
    "law01": "1: what is saved comes back equal",
    "law02": "2: what you hold is yours",
    "law03": "3: order is that of insertion",
    "law04": "4: many writers lose and tear nothing",
    "law05": "5: a kill loses nothing acknowledged",
    "law06": "6: damage is said aloud",
    "law07": "7: nobody sees another's; ids are data",
    "law08": "8: `max_messages` tears no tool call off",
    "law09": "9: nothing outside is touched",
    "law10": "10: forks, threads, event loops",
    "_laws_appending": "appends and changes",
    "_laws_reading": "reads",
    "_laws_listing": "lists",
    "_laws_searching": "search",
    "_laws_forking": "forks of a thread",
    "_laws_keeping": "saving and deleting",
    _WHOLE: "the kit is whole",
}
_LISTED = ("user_id", "metadata", "order_by", "before", "after", "preview")
# A reader may have any plugin of pytest; what they do to tests is not asked for here.
_BARE = ("-p", "no:asyncio", "-p", "no:xdist", "-p", "no:timeout", "-p", "no:hypothesispytest", "-p", "no:randomly")
_LAW = re.compile(r"test_(law\d\d)_")
_KIT = Path(__file__).with_name("_examined.py")


@dataclass
class Law:
    """How the tests of one law ended. `skipped` counts those that do not bind, by the reason they gave."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        parts = [f"{self.passed} kept"] if self.passed else []
        parts += [f"**{len(self.failed)} broken**"] if self.failed else []
        parts += [f"{self.skipped.total()} not bound"] if self.skipped else []
        return ", ".join(parts)


@dataclass
class Report:
    """One storage: `abilities` by what they are, `laws` by their key, `said` of each broken test, in pytest's words."""

    name: str
    abilities: dict[str, str] = field(default_factory=dict)
    laws: dict[str, Law] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)

    def named_laws(self) -> list[tuple[str, Law]]:
        """Each law with its name, in the order of the contract."""
        return [(title, self.laws[key]) for key, title in _LAWS.items() if key in self.laws]

    @property
    def broken(self) -> list[str]:
        return [test for law in self.laws.values() for test in law.failed]

    def __str__(self) -> str:
        lines = [table([self])]
        if self.broken:
            lines.append("\nBroken:\n")
            lines.extend(f"- `{test}`: {self.said[test]}" for test in self.broken)
        if reasons := self.reasons():
            lines.append("\nNot bound:\n")
            lines.extend(
                f"- {reason}" + (f" ({count} tests)" if count > 1 else "") for reason, count in reasons.items()
            )
        return "\n".join(lines)

    def reasons(self) -> Counter[str]:
        return sum((law.skipped for law in self.laws.values()), Counter[str]())


def abilities(storage: Any) -> dict[str, str]:
    """What a storage, or its class, brings itself, and what it leaves to the contract's defaults."""
    kind: Any = storage if isinstance(storage, type) else type(storage)
    found = {title: "own" if overrides(kind, name) else "default" for name, title in _OWN.items()}
    listed = [name for name in _LISTED if name in list_keywords(kind)]
    named = ", ".join(f"`{name}`" for name in listed)
    found["keywords of `list_threads`"] = "all" if len(listed) == len(_LISTED) else named or "none"
    found["expiry, `ttl=`"] = "yes" if "ttl" in inspect.signature(kind).parameters else "no"
    required = [getattr(kind, name, None) for name in REQUIRED]
    found["methods"] = "`async def`" if any(map(inspect.iscoroutinefunction, required)) else "`def`"
    return found


def examine(target: str | Callable[..., Any], *options: str) -> Report:
    """Run the kit on what `target` makes or names (see the module); `options` are pytest's, such as `-k` and `law04`.

    With options that choose among the tests the report is of those alone.
    """
    heard = _Hearing()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as said:
        arguments = [*options, "-p", "no:cacheprovider", "-p", "no:faulthandler", "-s", "--basetemp", f"{folder}/tests"]
        if isinstance(target, str) and ("::" in target or target.endswith(".py")):
            code = pytest.main([target, "-o", "addopts=", *arguments], plugins=[heard])
        else:
            heard.make = load_factory(target, "the storage to report on") if isinstance(target, str) else target
            settings = Path(folder) / "pytest.ini"
            settings.write_text("[pytest]\n")
            code = pytest.main([str(_KIT), "-c", str(settings), *_BARE, *arguments], plugins=[heard])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) or not heard.report.laws:
        raise ConfigurationError(f"the kit could not be run on {target!r}:\n{said.getvalue()}")
    return heard.report


def table(reports: Sequence[Report]) -> str:
    """The reports side by side, in Markdown."""
    rows = [["of the contract", *(each.name for each in reports)]]
    titles = dict.fromkeys(title for each in reports for title in each.abilities)
    rows += [[title, *(each.abilities.get(title, "") for each in reports)] for title in titles]
    laws = [dict(each.named_laws()) for each in reports]
    known = [title for title in _LAWS.values() if any(title in each for each in laws)]
    rows += [[title, *(str(each.get(title, "")) for each in laws)] for title in known]
    rows.insert(1, ["---"] * len(rows[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


class _Hearing:
    """Listens to pytest, as a plugin, and writes the report down."""

    def __init__(self) -> None:
        self.make: Callable[..., Any] | None = None
        self.report = Report("")

    @pytest.fixture
    def examined(self) -> Callable[..., Any] | None:
        return self.make

    def pytest_runtest_call(self, item: pytest.Item) -> None:
        store = getattr(item, "funcargs", {}).get("store")
        if store is not None and not self.report.name:
            self.report.name = store.name
            self.report.abilities = abilities(store.storage)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        key = law_of(report.nodeid, report.location[0])
        if key is None or (report.passed and (report.when != "call" or key == _WHOLE)):
            return
        law = self.report.laws.setdefault(key, Law())
        name = report.nodeid.rpartition("::")[2]
        if report.failed:
            law.failed.append(name)
            crash = getattr(report.longrepr, "reprcrash", None)
            self.report.said[name] = (crash.message if crash else str(report.longrepr)).partition("\n")[0]
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            law.skipped[reason.removeprefix("Skipped: ")] += 1
        else:
            law.passed += 1


def law_of(nodeid: str, path: str) -> str | None:
    """The key in `_LAWS` of a test that is defined at `path`; None for one that is not of the kit."""
    name = nodeid.rpartition("::")[2]
    found = _LAW.match(name)
    return next((key for key in (found and found[1], name, Path(path).stem) if key in _LAWS), None)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m memexllm.testing.report", description="What a storage does of the contract."
    )
    parser.add_argument("storage", help="my_module:make_storage, or tests/test_my_storage.py::TestMyStorage")
    parser.add_argument("-k", default="", help="only the tests that pytest's -k chooses")
    options = parser.parse_args(arguments)
    if "" not in sys.path:
        sys.path.insert(0, "")
    report = examine(options.storage, *(["-k", options.k] if options.k else []))
    sys.stdout.write(f"{report}\n")
    return 1 if report.broken else 0


if __name__ == "__main__":
    sys.exit(main())
