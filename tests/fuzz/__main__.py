"""`python -m tests.fuzz --minutes 10`: every machine in turn, with new random choices each time, until time is up.

Ends with status 1 and the shortest run that fails when something is found.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.fuzz.machine import Machine
from tests.fuzz.running import MACHINES, run_machine

N_EXAMPLES, N_STEPS = 10, 50


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--machine", choices=[machine.__name__ for machine in MACHINES], help="only this one")
    asked = parser.parse_args()
    chosen = [machine for machine in MACHINES if asked.machine in (None, machine.__name__)]
    started = time.monotonic()
    rounds = 0
    spent = {machine.__name__: [0.0, 0] for machine in chosen}
    while time.monotonic() - started < 60 * asked.minutes:
        for machine in chosen:
            before, operations = time.monotonic(), Machine.n_operations
            run_machine(machine, N_EXAMPLES, N_STEPS)
            took, operations = time.monotonic() - before, Machine.n_operations - operations
            spent[machine.__name__][0] += took
            spent[machine.__name__][1] += operations
            _tell(f"{machine.__name__}: {operations} operations in {took:.0f} s")
        rounds += 1
    for name, (seconds, n_operations) in spent.items():
        _tell(f"{name}: {rounds * N_EXAMPLES} runs, {n_operations} operations on every side, {seconds:.0f} s")
    _tell(f"nothing found in {(time.monotonic() - started) / 60:.1f} minutes")
    return 0


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
