"""Aliases of 0.1 import paths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.utils import exceptions as exceptions

__all__ = ["exceptions"]

__getattr__, __dir__ = lazy_exports(__name__, {"exceptions": "memexllm.utils.exceptions:"})
