"""The kit on what `memexllm.testing.report` was told to examine; collected by pytest when a report is made."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memexllm.testing.storage import StorageConformance


class TestExamined(StorageConformance):
    @pytest.fixture
    def storage(self, examined: Callable[..., Any], open_storage: Callable[[], Any] | None) -> Any:
        return examined() if open_storage is None else open_storage()

    @pytest.fixture
    def open_storage(self, examined: Callable[..., Any], tmp_path: Path) -> Callable[[], Any] | None:
        """A factory with a parameter is given a folder; what lies there is one store."""
        return functools.partial(examined, tmp_path) if takes_a_folder(examined) else None


def takes_a_folder(make: Callable[..., Any]) -> bool:
    return any(
        each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        for each in inspect.signature(make).parameters.values()
    )
