"""For people who write storages, algorithms and bots: conformance kits, fakes, and a local OpenAI-compatible server."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.testing.algorithm import AlgorithmConformance
    from memexllm.testing.fakes import FakeClock, FakeIds
    from memexllm.testing.server import OpenAIServer
    from memexllm.testing.storage import StorageConformance

__all__ = ["StorageConformance", "AlgorithmConformance", "OpenAIServer", "FakeClock", "FakeIds"]

if "pytest" in sys.modules:
    # The kits' asserts then show what they compared, as those of a user's own tests do.
    sys.modules["pytest"].register_assert_rewrite(
        *(f"{__name__}.{name}" for name in ("algorithm", "storage", "_driven", "_laws_apart", "_laws_appending")),
        *(f"{__name__}.{name}" for name in ("_laws_keeping", "_laws_listing", "_laws_reading")),
        *(f"{__name__}.{name}" for name in ("_laws_searching", "_laws_together")),
    )

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
