"""The laws of the four stores as tests, for stores of yours and of ours.

    class TestMyFacts(FactStoreConformance):
        @pytest.fixture
        def store(self):
            return MyFacts()

`store` is an empty store, or an awaitable one; the kit closes it when it can be closed. Needs pytest.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

# So that a failing law shows the values it compared. What somebody imported before stays as it is.
for _module in ("_kit", "_store_laws_facts", "_store_laws_history", "_store_laws_documents", "_store_laws_graph"):
    if f"memexllm.testing.{_module}" not in sys.modules:
        pytest.register_assert_rewrite(f"memexllm.testing.{_module}")

from memexllm.testing._kit import Kit  # noqa: E402 - after the loop above
from memexllm.testing._store_driven import DrivenStore  # noqa: E402
from memexllm.testing._store_laws_documents import KeepingDocuments  # noqa: E402
from memexllm.testing._store_laws_facts import KeepingFacts  # noqa: E402
from memexllm.testing._store_laws_graph import KeepingTriples  # noqa: E402
from memexllm.testing._store_laws_history import KeepingHistory  # noqa: E402

__all__ = ["FactStoreConformance", "HistoryStoreConformance", "DocumentStoreConformance", "GraphStoreConformance"]


class _WithStore:
    @pytest.fixture
    def store(self) -> Any:
        """An empty store, or an awaitable one; the kit closes it."""
        pytest.fail(f"{type(self).__name__} needs a fixture `store` that returns an empty store")


class FactStoreConformance(Kit, _WithStore, KeepingFacts):
    """Inherit and give `store`: a fixture that returns an empty `FactStore`."""

    @pytest.fixture
    def facts(self, declared_deviation: None, store: Any) -> Iterator[DrivenStore]:
        with DrivenStore(store) as driven:
            yield driven


class HistoryStoreConformance(Kit, _WithStore, KeepingHistory):
    """Inherit and give `store`: a fixture that returns an empty `HistoryStore`."""

    @pytest.fixture
    def history(self, declared_deviation: None, store: Any) -> Iterator[DrivenStore]:
        with DrivenStore(store) as driven:
            yield driven


class DocumentStoreConformance(Kit, _WithStore, KeepingDocuments):
    """Inherit and give `store`: a fixture that returns an empty `DocumentStore`."""

    @pytest.fixture
    def documents(self, declared_deviation: None, store: Any) -> Iterator[DrivenStore]:
        with DrivenStore(store) as driven:
            yield driven


class GraphStoreConformance(Kit, _WithStore, KeepingTriples):
    """Inherit and give `store`: a fixture that returns an empty `GraphStore`."""

    @pytest.fixture
    def graph(self, declared_deviation: None, store: Any) -> Iterator[DrivenStore]:
        with DrivenStore(store) as driven:
            yield driven
