"""Optional packages: imported when they are needed, and named with their extra when they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from memexllm.core.errors import MissingDependencyError


def required(package: str, *, extra: str, by: str) -> ModuleType:
    """The package; `MissingDependencyError` says that `by` needs it and which extra brings it."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingDependencyError(f'{by} needs the {package} package: pip install "memexllm[{extra}]"') from None
