"""The laws of storage as tests, for storages of yours and of ours.

    class TestMyStorage(StorageConformance):
        @pytest.fixture
        def storage(self):
            return MyStorage(...)

Methods may be `def` or `async def`; `BaseStorage` and `AsyncBaseStorage` are welcome and not needed. Further fixtures
bind further laws: `open_storage`, `damage`, `surroundings`. What a storage does not do is reported as skipped, by name.
Needs nothing but pytest.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

# So that a failing law shows the values it compared. What somebody imported before stays as it is.
_LAWS = ("keeping", "appending", "reading", "listing", "searching", "forking", "together", "apart")
for _module in [f"memexllm.testing.{name}" for name in ("_driven", "_batches", *(f"_laws_{law}" for law in _LAWS))]:
    if _module not in sys.modules:
        pytest.register_assert_rewrite(_module)

from memexllm.testing._driven import DrivenStorage  # noqa: E402 - after the loop above
from memexllm.testing._laws_apart import ApartLaws  # noqa: E402
from memexllm.testing._laws_appending import AppendingLaws  # noqa: E402
from memexllm.testing._laws_forking import ForkingLaws  # noqa: E402
from memexllm.testing._laws_keeping import KeepingLaws  # noqa: E402
from memexllm.testing._laws_listing import ListingLaws  # noqa: E402
from memexllm.testing._laws_reading import ReadingLaws  # noqa: E402
from memexllm.testing._laws_searching import SearchingLaws  # noqa: E402
from memexllm.testing._laws_together import TogetherLaws  # noqa: E402

__all__ = ["StorageConformance"]


class StorageConformance(
    KeepingLaws, AppendingLaws, ReadingLaws, ListingLaws, SearchingLaws, ForkingLaws, TogetherLaws, ApartLaws
):
    """Inherit and give `storage`: a fixture that returns an empty storage, which the kit closes.

    `deviations` names tests this storage is known not to pass, with the reason; they are reported as skipped. No test
    can be left out in another way: overriding one is a failure.
    """

    deviations: ClassVar[dict[str, str]] = {}

    @pytest.fixture
    def storage(self) -> Any:
        """An empty storage, or an awaitable one."""
        pytest.fail(f"{type(self).__name__} needs a fixture `storage` that returns an empty storage")

    @pytest.fixture
    def open_storage(self) -> Callable[[], Any] | None:
        """A picklable callable that opens the store of `storage` in another process (`functools.partial` is one)."""
        return None

    @pytest.fixture
    def damage(self) -> Callable[[str], None] | None:
        """A callable that makes the stored messages of the thread of this id unreadable, behind the storage's back."""
        return None

    @pytest.fixture
    def surroundings(self) -> Callable[[], Any] | None:
        """A callable that shows what lies beside the storage in the same database, server or folder, and is not its."""
        return None

    @pytest.fixture
    def store(self, declared_deviation: None, storage: Any) -> Iterator[DrivenStorage]:
        with DrivenStorage(storage) as driven:
            yield driven

    @pytest.fixture
    def limited(self, store: DrivenStorage) -> DrivenStorage:
        """A storage whose `max_messages` a test is going to set."""
        if not hasattr(store.storage, "max_messages"):
            pytest.skip(f"law 8 binds storages that have max_messages; {store.name} does not")
        return store

    @pytest.fixture(autouse=True)
    def declared_deviation(self, request: pytest.FixtureRequest) -> None:
        name = request.function.__name__
        if name in self.deviations and name in kit_tests():
            pytest.skip(f"declared deviation from {name}: {self.deviations[name]}")

    def test_kit_is_whole(self) -> None:
        """Deviations are declared, with a reason; nothing of the kit is overridden."""
        cls = type(self)
        overridden = [name for name in kit_tests() if getattr(cls, name, None) is not getattr(StorageConformance, name)]
        assert not overridden, f"{cls.__name__} overrides tests of the kit; declare them in `deviations`: {overridden}"
        unknown = sorted(set(cls.deviations) - set(kit_tests()))
        assert not unknown, f"{cls.__name__}.deviations names no test of the kit: {unknown}"
        unexplained = [name for name, reason in cls.deviations.items() if not reason.strip()]
        assert not unexplained, f"{cls.__name__}.deviations gives no reason for {unexplained}"


def kit_tests() -> list[str]:
    """The names of the kit's tests; `test_kit_is_whole` itself cannot be deviated from."""
    return [name for name in dir(StorageConformance) if name.startswith("test_") and name != "test_kit_is_whole"]
