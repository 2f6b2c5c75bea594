"""`python -m memexllm.testing.server` prints its base URL, one line, and serves until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from types import FrameType
from typing import get_args

from memexllm.testing.server.reasoning_rules import ReasoningDialect
from memexllm.testing.server.server import OpenAIServer


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m memexllm.testing.server", description="A local server that speaks the OpenAI API."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--strict-fields", action="store_true", help="refuse unknown fields in messages")
    parser.add_argument(
        "--reasoning",
        choices=get_args(ReasoningDialect),
        default="ignore",
        help="what becomes of reasoning fields in messages",
    )
    options = parser.parse_args()

    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, stop)
    with OpenAIServer(
        host=options.host,
        port=options.port,
        strict_fields=options.strict_fields,
        reasoning=options.reasoning,
        record=False,
    ) as server:
        sys.stdout.write(f"{server.base_url}\n")
        sys.stdout.flush()
        stopped.wait()


if __name__ == "__main__":
    main()
