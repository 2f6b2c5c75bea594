"""For people who write storages, algorithms and bots: conformance kits, fakes, and a local OpenAI-compatible server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.testing.algorithm import AlgorithmConformance
    from memexllm.testing.fakes import FakeClock, FakeIds
    from memexllm.testing.server import OpenAIServer
    from memexllm.testing.storage import StorageConformance

__all__ = ["StorageConformance", "AlgorithmConformance", "OpenAIServer", "FakeClock", "FakeIds"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AlgorithmConformance": "memexllm.testing.algorithm",
        "FakeClock": "memexllm.testing.fakes",
        "FakeIds": "memexllm.testing.fakes",
        "OpenAIServer": "memexllm.testing.server",
        "StorageConformance": "memexllm.testing.storage",
    },
)
