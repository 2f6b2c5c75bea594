"""Other libraries, each from its package in an environment of its own (`scripts/peers`): what they would send.

A child process is told what is said, one JSON line a call, and answers with the numbers of the messages it would send
and the messages it made itself. The block is not among them; every policy sends it besides.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.context.caching import Sent, Summarised
from benchmarks.context.policies import Policy, Room, sent
from benchmarks.context.workloads import Wire, Workload

ROOT = Path(__file__).parents[3]
ENVIRONMENTS = ROOT / ".venv-peers"

PEERS: dict[str, tuple[str, str]] = {
    "langchain-core trim_messages": ("langchain", "trim"),
    "langchain-core trim_messages, start_on=human": ("langchain", "trim from human"),
    "langchain SummarizationMiddleware, 0.8 B, 20 messages": ("langchain", "summarization"),
    "langchain ClearToolUsesEdit, 0.8 B, keep 4": ("langchain", "clear tools"),
    "llama-index Memory": ("llama-index", "memory"),
    "llama-index ChatMemoryBuffer": ("llama-index", "buffer"),
    "llama-index ChatSummaryMemoryBuffer": ("llama-index", "summary buffer"),
    "agent-framework ContextWindowCompaction": ("agent-framework", "context window"),
    "agent-framework SlidingWindow": ("agent-framework", "sliding window"),
    "agent-framework Summarization": ("agent-framework", "summarization"),
}
"""The environment and the name of the policy there. Budgets apart, their settings are their defaults."""


def clears_tools(name: str) -> bool:
    """Whether it does nothing to a thread without tools."""
    return PEERS.get(name, ("", ""))[1] == "clear tools"


def installed() -> bool:
    return all((ENVIRONMENTS / environment).is_dir() for environment, _ in PEERS.values())


def versions() -> dict[str, str]:
    """What was run: each environment's packages with their versions."""
    return {
        environment: _output(environment, "-m", f"benchmarks.context.peers.{_module(environment)}", "--version")
        for environment in sorted({environment for environment, _ in PEERS.values()})
    }


def peers() -> dict[str, Policy]:
    return {name: peer(environment, policy) for name, (environment, policy) in PEERS.items()}


def peer(environment: str, policy: str) -> Policy:
    def play(workload: Workload, budget: int) -> Iterator[Sent]:
        room = Room(workload, budget)
        setting = {"policy": policy, "budget": budget, "max_groups": room.max_groups}
        command = [_python(environment), "-m", f"benchmarks.context.peers.{_module(environment)}"]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            told: list[Wire] = []
            line = json.dumps(setting) + "\n"
            for call in workload.calls:
                told.extend(call.said)
                child.stdin.write(line + json.dumps(list(call.said)) + "\n")
                child.stdin.flush()
                answer = json.loads(child.stdout.readline() or _gave_up(environment, policy))
                chosen = [told[item] if isinstance(item, int) else item for item in answer["sent"]]
                yield sent([workload.block, *chosen], [Summarised(*each) for each in answer["summaries"]])
                told.append(call.answer)
                line = json.dumps([call.answer]) + "\n"
            child.stdin.close()

    return play


def _gave_up(environment: str, policy: str) -> str:
    raise RuntimeError(f"the child process of {environment} ({policy}) ended; what it said stands above")


def _module(environment: str) -> str:
    return "with_" + environment.replace("-", "_")


def _python(environment: str) -> str:
    return str(ENVIRONMENTS / environment / "bin" / "python")


def _output(environment: str, *arguments: str) -> str:
    return subprocess.run(
        [_python(environment), *arguments], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
