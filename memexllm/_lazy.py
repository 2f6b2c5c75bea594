"""Lazy exports: a package's `__init__` names its public objects and imports none of them.

With eager `__init__` files `from memexllm.storage.base import BaseStorage` would run every backend's
imports first, and `import memexllm` would load pydantic. A package therefore keeps one table, name → home.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_exports(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`(__getattr__, __dir__)` for `package`; `homes` maps each exported name to the module that defines it.

    `module:name` is for what has another name there, `module:` for the module itself.
    """

    def __getattr__(name: str) -> Any:  # noqa: N807 - it becomes the module's own __getattr__
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, other = home.partition(":")
        value: Any = importlib.import_module(module)
        if module == home or other:
            value = getattr(value, other or name)
        setattr(sys.modules[package], name, value)
        return value

    def __dir__() -> list[str]:  # noqa: N807 - it becomes the module's own __dir__
        return sorted({*vars(sys.modules[package]), *homes})

    return __getattr__, __dir__
