"""The laws of vector databases as tests, for databases of yours and of ours.

    class TestMyDatabase(VectorDatabaseConformance):
        @pytest.fixture
        def database(self, embeddings):
            return MyDatabase(embeddings)

Needs pytest and numpy.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

# So that a failing law shows the values it compared. What somebody imported before stays as it is.
for _module in ("_kit", "_memory_laws", "_memory_laws_apart", "_memory_laws_words"):
    if f"memexllm.testing.{_module}" not in sys.modules:
        pytest.register_assert_rewrite(f"memexllm.testing.{_module}")

from memexllm.testing._kit import Kit  # noqa: E402 - after the loop above
from memexllm.testing._memory_driven import DrivenDatabase, KitEmbeddings  # noqa: E402
from memexllm.testing._memory_laws import KeepingMemories  # noqa: E402
from memexllm.testing._memory_laws_apart import MemoriesApart  # noqa: E402
from memexllm.testing._memory_laws_words import MemoriesByWords  # noqa: E402

__all__ = ["VectorDatabaseConformance"]


class VectorDatabaseConformance(Kit, KeepingMemories, MemoriesApart, MemoriesByWords):
    """Inherit and give `database`: a fixture that returns an empty database, made with the kit's `embeddings`."""

    @pytest.fixture
    def embeddings(self) -> KitEmbeddings:
        """What the database embeds with: texts are near that share words."""
        return KitEmbeddings()

    @pytest.fixture
    def database(self, embeddings: KitEmbeddings) -> Any:
        """An empty database, or an awaitable one; the kit closes it."""
        pytest.fail(f"{type(self).__name__} needs a fixture `database` that returns an empty database")

    @pytest.fixture
    def memory(self, database: Any) -> Iterator[DrivenDatabase]:
        with DrivenDatabase(database) as driven:
            yield driven
