"""Typed programs of users: type checkers accept them, refuse the lines that say so, and what they accept runs.

The programs are texts, for our own checks of types must not look at their mistakes.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from openai.resources.chat.completions import AsyncCompletions, Completions
from openai.resources.responses import AsyncResponses, Responses

from memexllm import MemoryStorage, with_history
from memexllm.integrations.openai import _params, _response_params, client_history
from memexllm.integrations.openai._ours import Ours
from tests.openai.talking import async_sdk_client, sdk_client

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from types import ModuleType

    from memexllm.testing.server import OpenAIServer

ROOT = Path(__file__).parents[2]
PROGRAMS = {path.name.partition(".")[0]: path.read_text("utf-8") for path in Path(__file__).parent.glob("*/*.py.txt")}
OURS = set(Ours.__annotations__)

Place = tuple[str, int]


def uses(program: str) -> list[str]:
    """The functions of a program that are run."""
    return re.findall(r"^(?:async )?def (use_\w+)", PROGRAMS[program], re.MULTILINE)


def marked() -> AbstractSet[Place]:
    return {
        (name, number)
        for name, text in PROGRAMS.items()
        for number, line in enumerate(text.splitlines(), start=1)
        if line.endswith("# error")
    }


def only_marked(found: dict[Place, str]) -> tuple[dict[Place, str], list[Place]]:
    """What was refused without being marked, and what is marked and was accepted; both are to be empty."""
    expected = marked()
    return {at: found[at] for at in found.keys() - expected}, sorted(expected - found.keys())


def place(diagnostic: dict[str, Any]) -> Place:
    return Path(diagnostic["file"]).stem.removesuffix("_program"), diagnostic["range"]["start"]["line"] + 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs as files, in a project of their own that finds this checkout."""
    folder = tmp_path_factory.mktemp("typed")
    for name, text in PROGRAMS.items():
        (folder / f"{name}_program.py").write_text(text, "utf-8")
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(ROOT)], "pythonVersion": "3.11"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings), "utf-8")
    (folder / "mypy.ini").write_text(f"[mypy]\nmypy_path = {ROOT}\npython_version = 3.11\n", "utf-8")
    return folder


def said_by(folder: Path, *command: str) -> str:
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(400)
def test_mypy_refuses_the_marked_lines_and_no_others(folder: Path) -> None:
    cache = ROOT / ".mypy_cache" / "typed-programs"
    # What is said of the library itself is not said to a user, whose packages are not checked.
    options = ("--strict", "--follow-imports=silent", "--no-pretty", "--no-error-summary", f"--cache-dir={cache}")
    said = said_by(folder, "mypy", *options, *(f"{name}_program.py" for name in PROGRAMS))
    found = re.findall(r"^(\w+)_program\.py:(\d+): error: (.*)", said, re.MULTILINE)
    assert only_marked({(name, int(line)): message for name, line, message in found}) == ({}, [])


@pytest.mark.timeout(400)
def test_pyright_refuses_the_marked_lines_and_no_others(folder: Path) -> None:
    said = said_by(folder, "pyright", "--pythonpath", sys.executable, "--outputjson", ".")
    found = json.loads(said)["generalDiagnostics"]
    assert only_marked({place(one): one["message"] for one in found}) == ({}, [])


@pytest.fixture(scope="module")
def programs(folder: Path) -> dict[str, ModuleType]:
    """Those without mistakes, imported."""
    sys.path.insert(0, str(folder))
    try:
        return {
            name: importlib.import_module(f"{name}_program")
            for name, text in PROGRAMS.items()
            if "# error\n" not in text
        }
    finally:
        sys.path.remove(str(folder))


async def run(function: Any, *arguments: Any) -> None:
    result = function(*arguments)
    if inspect.isawaitable(result):
        await result


@pytest.mark.parametrize("use", uses("sync"))
async def test_what_type_checkers_accept_of_a_client_continues_the_thread(
    programs: dict[str, ModuleType], openai_server: OpenAIServer, use: str
) -> None:
    with sdk_client(openai_server) as original:
        client = with_history(original, storage=MemoryStorage())
        await run(getattr(programs["sync"], use), client)
        stored = client.history.get_messages("t")
    assert [message.role for message in stored][-2:] == ["user", "assistant"]
    assert len(openai_server.requests) == 1


@pytest.mark.parametrize("use", uses("async"))
async def test_what_type_checkers_accept_of_an_async_client_continues_the_thread(
    programs: dict[str, ModuleType], openai_server: OpenAIServer, use: str
) -> None:
    async with async_sdk_client(openai_server) as original:
        client = with_history(original, storage=MemoryStorage())
        await run(getattr(programs["async"], use), client)
        stored = await client.history.get_messages("t")
    assert [message.role for message in stored][-2:] == ["user", "assistant"]
    assert len(openai_server.requests) == 1


@pytest.mark.parametrize("use", uses("wrapping"))
async def test_every_typed_way_of_wrapping_works(
    programs: dict[str, ModuleType], openai_server: OpenAIServer, tmp_path: Path, use: str
) -> None:
    function = getattr(programs["wrapping"], use)
    if inspect.iscoroutinefunction(function):
        async with async_sdk_client(openai_server) as async_original:
            await function(async_original, tmp_path)
    else:
        with sdk_client(openai_server) as original:
            function(original, tmp_path)


@pytest.mark.parametrize("use", uses("stores"))
async def test_typed_managers_storages_and_algorithms_work(programs: dict[str, ModuleType], use: str) -> None:
    await run(getattr(programs["stores"], use))


@pytest.mark.parametrize("resource", [Completions, AsyncCompletions])
@pytest.mark.parametrize("method", ["create", "parse", "stream"])
def test_every_parameter_of_the_sdk_is_known(resource: Any, method: str) -> None:
    known = _params.MaybeStreamed.__annotations__.keys()
    parameters = inspect.signature(getattr(resource, method)).parameters.keys() - {"self"}
    assert parameters - known == set(), "run scripts/openai-params with this release of openai"
    assert not OURS & parameters, "the SDK has a parameter of the same name as ours"


@pytest.mark.parametrize("resource", [Responses, AsyncResponses])
@pytest.mark.parametrize(
    ("method", "known"),
    [
        ("create", _response_params.MaybeStreamed),
        ("parse", _response_params.ParseParams),
        ("stream", _response_params.StreamParams),
    ],
)
def test_every_parameter_of_the_sdks_responses_is_known(resource: Any, method: str, known: Any) -> None:
    parameters = inspect.signature(getattr(resource, method)).parameters.keys() - {"self"}
    unknown = parameters - known.__annotations__.keys() - {"stream", "text_format"}
    assert unknown == set(), "run scripts/openai-params with this release of openai"
    assert not OURS & parameters, "the SDK has a parameter of the same name as ours"


def test_type_checkers_know_every_parameter_that_is_ours() -> None:
    assert set(client_history.OURS) == OURS


@pytest.mark.parametrize(("api", "module"), [("chat", _params), ("responses", _response_params)])
def test_the_parameters_were_written_by_their_script(api: str, module: ModuleType) -> None:
    written = Path(module.__file__ or "").read_text("utf-8")
    if f"of openai {version('openai')}." not in written:
        pytest.skip("they were written from another release of openai")
    script = ROOT / "scripts" / "openai-params"
    printed = subprocess.run([sys.executable, script, "--print", api], capture_output=True, text=True, check=True)
    assert printed.stdout == written
