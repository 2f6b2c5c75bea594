"""`python -m tests.storm --conversations 2000`: that many random conversations, and what was done in them.

The first that fails ends the run and names its seed.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

from tests.storm.playing import N_STEPS, play


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=__doc__)
    parser.add_argument("--conversations", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="the seed of the first one")
    parser.add_argument("--steps", type=int, default=N_STEPS, help="of each conversation")
    asked = parser.parse_args()
    # Its storages are down on purpose, which the library tells as errors.
    logging.getLogger("memexllm").setLevel(logging.CRITICAL)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        done = play(range(asked.first, asked.first + asked.conversations), Path(folder), asked.steps)
    for name, count in sorted(done.items()):
        sys.stdout.write(f"{count:8} {name}\n")
    sys.stdout.write(f"nothing lost, nothing doubled, nothing refused in {time.monotonic() - started:.0f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
