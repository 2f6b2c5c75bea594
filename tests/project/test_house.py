"""What holds in the whole checkout: its texts, its modules, its published names, its scripts."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ["memexllm", "tests", "docs", "examples", "benchmarks", "scripts", ".ci"]
MODULES = sorted((ROOT / "memexllm").rglob("*.py"))
MAX_LINES = 400
FIRST_SCREEN_LINES = 60

MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|farm|home|root)/")
PUBLIC_INDEX = "https://pypi.org/simple"
PUBLIC_FILES_HOST = "files.pythonhosted.org"

PUBLISHED_IMPORTS = [
    "from memexllm import HistoryManager, AsyncHistoryManager, Thread, Message",
    "from memexllm.core import HistoryManager",
    "from memexllm.core.models import Thread, Message",
    "from memexllm.core.history import HistoryManager",
    "from memexllm.history import HistoryManager",
    "from memexllm.storage import BaseStorage, MemoryStorage, SQLiteStorage",
    "from memexllm.storage.base import BaseStorage",
    "from memexllm.algorithms import BaseAlgorithm, FIFOAlgorithm",
    "from memexllm.integrations.openai import with_history",
    "from memexllm.integrations.openai_agents import MemexSession",
    "from memexllm.utils.exceptions import StorageError",
    "from memexllm.core import Message, MessageRole, Thread",
    "from memexllm.core.models import TextContent, ImageContent, ToolCallContent, MessageContent, MessageRole",
    "from memexllm.types import MessageType, ThreadType",
    "from memexllm.storage import DatabaseConnectionError, DatabaseOperationError, DatabaseIntegrityError",
    "from memexllm.storage.memory import MemoryStorage",
    "from memexllm.storage.sqlite import SQLiteStorage, DatabaseConnectionError",
    "from memexllm.storage.sqlite import DatabaseOperationError, DatabaseIntegrityError, SQLiteStorageError",
    "from memexllm.algorithms.base import BaseAlgorithm",
    "from memexllm.algorithms.fifo import FIFOAlgorithm",
    "from memexllm.utils import exceptions; exceptions.ThreadNotFoundError",
    "from memexllm.utils.exceptions import MemexLLMError, ConfigurationError, ValidationError",
    "from memexllm.utils.exceptions import APIError, OpenAIAPIError, RateLimitError, AuthenticationError",
    "from memexllm.utils.exceptions import ResourceNotFoundError, ThreadNotFoundError, MessageNotFoundError",
    "from memexllm.utils.exceptions import ConnectionError, OperationError, IntegrityError",
    "from memexllm import storage, algorithms, core, utils, integrations",
    "import memexllm; memexllm.storage.MemoryStorage, memexllm.core.Thread, memexllm.utils.exceptions.StorageError",
    "from memexllm import ResourceNotFoundError, ConnectionError, RateLimitError, MessageNotFoundError",
    "from memexllm import MemoryManager, AsyncMemoryManager, MemoryRecord, Memory, OpenMemory, Memio",
    "from memexllm import Plugin, generate_id, Recall, MessageRecall, AsyncMessageRecall",
    "from memexllm import ProviderError, NotSupportedError",
    "from memexllm.memory import MemoryManager, SQLiteVectorDatabase, InMemoryVectorDatabase, StorageBackend",
    "from memexllm.providers import EmbeddingProvider",
    "from memexllm.storage import StorageBackend",
    "from memexllm.chunking import ChunkingStrategy",
    "from memexllm.memory_vector_db import MemoryVectorDatabase",
    "from memexllm.memory_vector_db_factory import create_memory_vector_db",
    "from memexllm.models import MemoryRecord, MemoryRecordResult, MemoryRecordResults, Fact, Document, Message",
    "from memexllm.protocols import FactStore, HistoryStore, DocumentStore, GraphStore",
    "from memexllm.models import Triple, GraphResult",
    "from memexllm.exceptions import ProviderError, NotSupportedError",
    "from memexllm.testing import StorageConformance, AlgorithmConformance, OpenAIServer",
]


def output(*command: str) -> str:
    """What the command prints in the checkout; its complaint is the failure's message."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def in_a_fresh_interpreter(code: str) -> str:
    return output(sys.executable, "-c", code)


def texts() -> dict[str, str]:
    """Every text of the checkout by its path; build products and caches are not ours."""
    top = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    below = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    return {
        str(path.relative_to(ROOT)): path.read_bytes().decode("utf-8", errors="replace")
        for path in top + below
        if "__pycache__" not in path.parts
    }


def test_no_text_holds_a_path_of_someones_machine() -> None:
    found = [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts().items()
        for number, line in enumerate(text.splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


def test_lock_files_know_the_public_index_only() -> None:
    locks = [path for pattern in ("*.lock", "pylock*.toml", "requirements*.txt") for path in ROOT.glob(pattern)]
    assert ROOT / "uv.lock" in locks
    for lock in locks:
        text = lock.read_text("utf-8")
        addresses = re.findall(r"\b[a-z+]+://[^\s\"'>]*", text)
        foreign = {
            address
            for address in addresses
            if address != PUBLIC_INDEX and not address.startswith(f"https://{PUBLIC_FILES_HOST}/")
        }
        assert foreign == set(), lock.name
        assert "file:" not in text, lock.name


def test_the_lock_file_was_made_from_this_project_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = chain(project["dependencies"], *project["optional-dependencies"].values())
    lock = tomllib.loads((ROOT / "uv.lock").read_text("utf-8"))
    locked = next(package for package in lock["package"] if package["name"] == project["name"])
    in_lock = [found["name"] + found.get("specifier", "") for found in locked["metadata"]["requires-dist"]]
    assert {bare(requirement) for requirement in asked} == set(in_lock), "run: uv lock"


def bare(requirement: str) -> str:
    """A requirement's name and bounds, without extras and marker."""
    return re.sub(r"\[.*?\]|;.*|\s", "", requirement)


def test_the_readme_sets_up_with_two_commands() -> None:
    first_screen = (ROOT / "README.md").read_text("utf-8").splitlines()[:FIRST_SCREEN_LINES]
    commands = [line.strip().removeprefix("$ ").split("#")[0].strip() for line in first_screen]
    assert sorted(line for line in commands if line.startswith("./scripts/")) == [
        "./scripts/demo",
        "./scripts/test",
    ]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def test_a_module_says_what_it_holds_and_is_short(module: Path) -> None:
    source = module.read_text("utf-8")
    assert ast.get_docstring(ast.parse(source))
    assert len(source.splitlines()) <= MAX_LINES


def catches_everything(module: Path) -> bool:
    """Whether it has an `except Exception` or wider that may go on, or suppresses as much."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ExceptHandler):
            caught = "BaseException" if node.type is None else ast.unparse(node.type)
            raised_again = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            if "Exception" in re.split(r"[\W]", caught) or (caught == "BaseException" and not raised_again):
                return True
        suppressed = node.args if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress") else []
        if any(ast.unparse(each) in ("Exception", "BaseException") for each in suppressed):
            return True
    return False


def test_everything_is_caught_at_the_doors_alone() -> None:
    listed = re.findall(r"`(memexllm/[\w/]+\.py)`", (ROOT / "memexllm/core/errors.py").read_text())
    found = [module.relative_to(ROOT).as_posix() for module in MODULES if catches_everything(module)]
    assert sorted(set(found)) == sorted(set(listed))


def test_no_test_is_written_for_numbers() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and "coverage" in node.name.lower()
    ]
    assert found == []


def test_importing_the_package_loads_nothing_of_others() -> None:
    code = "import sys; before = set(sys.modules); import memexllm; print(*set(sys.modules) - before)"
    loaded = {name.partition(".")[0] for name in in_a_fresh_interpreter(code).split()}
    assert loaded - sys.stdlib_module_names == {"memexllm"}


@pytest.mark.parametrize("line", PUBLISHED_IMPORTS)
def test_a_published_import_works_first(line: str) -> None:
    in_a_fresh_interpreter(line)


@pytest.mark.parametrize(
    "script",
    ["scripts/_env", "scripts/check", "scripts/compat", "scripts/demo", "scripts/peers", "scripts/test", ".ci/run"],
)
def test_a_script_is_valid_bash(script: str) -> None:
    output("bash", "-n", script)
    assert os.access(ROOT / script, os.X_OK) == (script != "scripts/_env"), "only _env is sourced, not run"


class Loads(HTMLParser):
    """Collects the addresses a browser fetches on its own for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "link" and found.get("rel") not in {"canonical", "next", "prev"}:
            self.addresses.append(found.get("href") or "")
        if tag in {"img", "script", "iframe", "source", "video", "audio"}:
            self.addresses.append(found.get("src") or "")


def test_a_page_of_the_site_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    output(sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path))
    pages = sorted(tmp_path.rglob("*.html"))
    assert tmp_path / "index.html" in pages
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text("utf-8"))
        external = [address for address in loads.addresses if re.match(r"(https?:)?//", address)]
        assert external == [], page.name
