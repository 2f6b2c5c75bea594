"""The table: `python -m benchmarks.context`. Figures are tokens, the same everywhere; `--latency` measures time."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.context import latency
from benchmarks.context.caching import DISCOUNTS
from benchmarks.context.marks import Matcher, best_mark, bills_of_marks
from benchmarks.context.peers import parent
from benchmarks.context.policies import PLAIN, Policy, played, policies
from benchmarks.context.report import Row, as_json, matched_of, merged, row_of, table
from benchmarks.context.workloads import BUDGETS, MADE, Workload, locomo
from memexllm import WindowError

Options = argparse.Namespace


def options() -> Options:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.context", description=__doc__)
    parser.add_argument("--workload", action="append", choices=[*MADE, "locomo"], help="only these; may be repeated")
    parser.add_argument("--budget", type=int, action="append", help="tokens of history; may be repeated")
    parser.add_argument("--calls", type=int, help="only the beginning of each workload")
    parser.add_argument("--policy", action="append", help="only policies with this in their name; may be repeated")
    parser.add_argument("--data", type=Path, help="a folder of dialogues in LoCoMo's form, for the workload locomo")
    parser.add_argument("--peers", action="store_true", help="other libraries too, and ours at what each of them keeps")
    parser.add_argument("--marks", action="store_true", help="the best fixed low mark of each workload and budget")
    parser.add_argument("--latency", action="store_true", help="how long choosing takes on a thread of 100,000")
    parser.add_argument("--series", action="store_true", help="the tokens of every call go into the JSON too")
    parser.add_argument("--json", type=Path, help="where the figures go as JSON, those of other runs beside them")
    given = parser.parse_args()
    if given.peers and not parent.installed():
        parser.error("--peers needs the libraries' environments: scripts/peers makes them")
    if given.workload and "locomo" in given.workload and not given.data:
        parser.error("the workload locomo is played from --data")
    return given


def workloads(given: Options) -> Iterator[tuple[Workload, int]]:
    makers: dict[str, Callable[[], Workload]] = dict(MADE)
    if given.data:
        makers["locomo"] = lambda: locomo(given.data)
    for name in given.workload or makers:
        made = makers[name]()
        for budget in given.budget or BUDGETS[name]:
            yield made if given.calls is None else made.first(given.calls), budget


def contestants(given: Options, workload: Workload) -> dict[str, Policy]:
    found = {**policies(), **(parent.peers() if given.peers else {})}
    wanted = given.policy or [""]
    return {
        name: policy
        for name, policy in found.items()
        if any(part in name for part in wanted) and (workload.has_tools or not parent.clears_tools(name))
    }


def rows_of(given: Options, workload: Workload, budget: int) -> Iterator[Row]:
    matcher = Matcher(workload)
    for name, policy in contestants(given, workload).items():
        try:
            bill = played(policy, workload, budget)
        except WindowError as error:
            yield Row(workload.name, budget, name, stopped=str(error))
            continue
        row = row_of(workload, budget, name, bill, series=given.series)
        if given.peers and name != "everything" and (name in PLAIN or name in parent.PEERS):
            matched = matcher.at(bill.mean_kept)
            row.matched = matched_of(matched, row.prices) if matched else None
        yield row


def marks_of(workload: Workload, budget: int) -> dict[str, Any]:
    bills = bills_of_marks(workload, budget)
    best = {str(discount): best_mark(bills, budget, discount) for discount in DISCOUNTS}
    return {
        "workload": workload.name,
        "budget": budget,
        "tokens_a_call": round(workload.tokens_a_call, 1),
        "best": best,
        "worth": {
            str(mark): {str(discount): round(bill.worth(discount, budget), 1) for discount in DISCOUNTS}
            for mark, bill in bills.items()
        },
    }


def noted(given: Options, found: dict[str, Any]) -> None:
    """Figures go into the file as they are found."""
    if given.json:
        known = json.loads(given.json.read_text("utf-8")) if given.json.exists() else {}
        given.json.write_text(json.dumps(merged(known, found), indent=1) + "\n", "utf-8")


def main() -> None:
    given = options()
    if given.latency:
        measured = latency.latencies()
        print("\n".join(map(latency.shown, measured)), flush=True)
        noted(given, {"latency": [asdict(each) for each in measured]})
        return
    if given.peers:
        noted(given, {"versions": parent.versions()})
    for workload, budget in workloads(given):
        if given.marks:
            marks = marks_of(workload, budget)
            print(f"{workload.name}, {budget:,}: best low marks {marks['best']}", flush=True)
            noted(given, {"marks": [marks]})
            continue
        rows: list[Row] = []
        for row in rows_of(given, workload, budget):
            print(f"{workload.name}, {budget:,}: {row.policy}", file=sys.stderr, flush=True)
            rows.append(row)
        print(table(rows) + "\n", flush=True)
        noted(given, {"rows": as_json(rows)})


if __name__ == "__main__":
    main()
