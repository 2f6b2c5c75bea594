"""The reference: every public name stands on a page of it, as the built site shows it."""

from __future__ import annotations

import importlib
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = [
    "memexllm",
    "memexllm.core",
    "memexllm.storage",
    "memexllm.algorithms",
    "memexllm.memory",
    "memexllm.integrations.openai",
    "memexllm.integrations.openai_agents",
    "memexllm.memory.embeddings",
    "memexllm.memory.chunking",
    "memexllm.memory.ingest",
    "memexllm.testing",
    "memexllm.testing.server",
]
PUBLIC_NAMES = [(package, name) for package in PACKAGES for name in importlib.import_module(package).__all__]
ANCHOR = re.compile(r'\bid="(memexllm\.[\w.]+)"')


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The dotted path of each name that has a heading in the reference, as built."""
    site = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pages = sorted((site / "reference").rglob("*.html"))
    return [path for page in pages for path in ANCHOR.findall(page.read_text("utf-8"))]


def stands_in(described: list[str], public: Any, name: str) -> bool:
    """Under this name or its own: 0.1's names for errors are other names of ours."""
    names = {name, getattr(public, "__name__", name)}
    return any(pkgutil.resolve_name(path) is public for path in described if path.rpartition(".")[2] in names)


@pytest.mark.parametrize(("package", "name"), PUBLIC_NAMES, ids=lambda part: str(part))
def test_a_public_name_stands_in_the_reference(package: str, name: str, described: list[str]) -> None:
    public = getattr(importlib.import_module(package), name)
    assert stands_in(described, public, name), f"{package}.{name}: add `:::` and its home to a page of docs/reference"


def test_every_error_stands_in_the_reference(described: list[str]) -> None:
    errors = vars(importlib.import_module("memexllm.core.errors"))
    ours = {name: error for name, error in errors.items() if getattr(error, "__module__", "") == "memexllm.core.errors"}
    assert [name for name, error in ours.items() if not stands_in(described, error, name)] == []


def test_a_name_stands_in_one_place(described: list[str]) -> None:
    assert [path for path in sorted(set(described)) if described.count(path) > 1] == []
