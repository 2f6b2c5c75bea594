"""How long `memexllm --help` takes, from the start of Python to its end: `python -m benchmarks.cli`.

*python* is the interpreter starting and ending; *typer* imports typer on top, which the command has to.
"""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

N_ROUNDS = 30
BUDGET_MS = 150
COMMANDS = {
    "python": ["-c", "pass"],
    "typer": ["-c", "import typer"],
    "memexllm --version": ["-m", "memexllm", "--version"],
    "memexllm --help": ["-m", "memexllm", "--help"],
    "memexllm threads --help": ["-m", "memexllm", "threads", "--help"],
}


def wall_ms(arguments: list[str]) -> float:
    started_at = time.perf_counter_ns()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter_ns() - started_at) / 1e6


def main() -> None:
    samples: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for arguments in COMMANDS.values():
        wall_ms(arguments)
    for _ in range(N_ROUNDS):
        for name, arguments in COMMANDS.items():
            samples[name].append(wall_ms(arguments))
    for name, found in samples.items():
        print(f"  {name:26} {median(found):7.1f} ms median {min(found):7.1f} ms minimum")
    verdict = "within" if median(samples["memexllm --help"]) < BUDGET_MS else "OVER"
    print(f"  memexllm --help is {verdict} its {BUDGET_MS} ms")


if __name__ == "__main__":
    main()
