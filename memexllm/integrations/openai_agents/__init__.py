"""A `Session` of the OpenAI Agents SDK over any storage: agents get threads, windows and search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.integrations.openai_agents.session import MemexSession
    from memexllm.integrations.openai_agents.session import MemexSession as Session

__all__ = ["MemexSession", "Session"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "MemexSession": "memexllm.integrations.openai_agents.session",
        "Session": "memexllm.integrations.openai_agents.session:MemexSession",
    },
)
