"""The documentation runs: a page's python blocks, in order, in one namespace, as if they were one script.

HTML comments say what a reader need not see. `<!-- skip: reason -->` before a python block leaves it out and
reports it; `<!-- output -->` before a text block states what the python block above it prints. `<!-- file: bot.py -->`
puts a python block into a file of that name instead of running it, which a block or test below it must import;
`<!-- test: test_bot.py -->` does so as well, and pytest must pass on the file.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import io
import os
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

FENCE = re.compile(r"(?P<indent> *)(?P<marks>`{3,}|~{3,})(?P<language>\w*)")
DIRECTIVE = re.compile(r"<!-- *(?P<name>skip|output|file|test)(?: *: *(?P<argument>.*?))? *-->")
FILE_NAME = re.compile(r"(?P<module>[a-z_]+)\.py")
SHELLS = {"bash", "console", "sh", "shell"}


class Server(Protocol):
    @property
    def base_url(self) -> str: ...


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    """The line number of the opening fence; the text starts one below."""
    language: str
    text: str
    directive: str = ""
    argument: str = ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The page's fenced blocks in order, each with the directive on the last non-blank line before it."""
    lines = page.read_text("utf-8").splitlines()
    number, directive = 0, None
    while number < len(lines):
        line = lines[number]
        if fence := FENCE.match(line):
            closing = re.compile(rf" *{fence['marks'][0]}{{{len(fence['marks'])},}} *$")
            end = next((n for n in range(number + 1, len(lines)) if closing.match(lines[n])), None)
            if end is None:
                raise SyntaxError(f"{page}:{number + 1}: this fence is never closed")
            text = textwrap.dedent("".join(f"{text}\n" for text in lines[number + 1 : end]))
            name, argument = (directive["name"], directive["argument"] or "") if directive else ("", "")
            yield Block(page, number + 1, fence["language"], text, name, argument)
            number, directive = end, None
        elif line.strip():
            if directive:
                raise SyntaxError(f"{page}:{number + 1}: {directive[0]!r} above stands before no block")
            directive = DIRECTIVE.fullmatch(line.strip())
        number += 1
    if directive:
        raise SyntaxError(f"{page}: {directive[0]!r} at the end stands before no block")


def run(block: Block, script: ModuleType) -> str:
    """What the block prints. Its traceback names the page and the line in it."""
    code = compile("\n" * block.line + block.text, str(block.page), "exec", dont_inherit=True)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, vars(script))  # noqa: S102 - the page is ours
    return printed.getvalue()


def write(block: Block, written: list[str]) -> None:
    """Put the block into its file in the current folder, and have pytest run it when it is a test."""
    name = FILE_NAME.fullmatch(block.argument)
    assert block.language == "python", f"{block}: only a python block is put into a file"
    assert name, f"{block}: {block.argument!r} is no name for a python file"
    compile("\n" * block.line + block.text, str(block.page), "exec", dont_inherit=True)
    Path(name[0]).write_text(block.text, "utf-8")
    if block.directive == "file":
        written.append(name["module"])
        return
    written[:] = not_imported(written, block)
    # A reader may have pytest and none of its plugins.
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-W",
        "error",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:asyncio",
        name[0],
    ]
    path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, f"{block}: the test fails\n{done.stdout}{done.stderr}"
    assert re.search(r"\b\d+ passed", done.stdout), f"{block}: pytest ran no test of it"


def not_imported(written: list[str], block: Block) -> list[str]:
    return [module for module in written if f"from {module} import" not in block.text]


@pytest.fixture
def script(openai_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A `__main__` in an empty folder, whose OpenAI clients reach the local server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    loaded = set(sys.modules)
    monkeypatch.setenv("OPENAI_BASE_URL", openai_server.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "test-key")
    module = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    # One collection at the end finalises in the order of creation: a client, which closes its sockets, before them.
    gc.collect()
    gc.disable()
    yield module
    # What a page leaves open warns here, not in whichever test comes next.
    vars(module).clear()
    for name in set(sys.modules) - loaded:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]  # a module of the page's; the next page may have another of that name
    gc.enable()
    gc.collect()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run_in_order(page: Path, script: ModuleType, subtests: pytest.Subtests) -> None:
    printed: str | None = None
    written: list[str] = []
    for block in blocks(page):
        if block.directive == "output":
            assert block.language == "text", f"{block}: an output is a text block, not {block.language!r}"
            assert printed is not None, f"{block}: no python block that ran stands before this output"
            assert printed.rstrip() == block.text.rstrip(), f"{block}: not what the block above prints"
        elif block.directive == "skip":
            assert block.language == "python", f"{block}: only a python block is run, so only one is skipped"
            assert block.argument, f"{block}: the reason is missing: <!-- skip: reason -->"
            with subtests.test(str(block)):
                pytest.skip(f"{block}: {block.argument}")
            printed = None
        elif block.directive in ("file", "test"):
            write(block, written)
            printed = None
        elif block.language == "python":
            printed = run(block, script)
            written[:] = not_imported(written, block)
    assert written == [], f"{page}: nothing below imports {written}, so nobody runs them"


def test_the_scripts_that_pages_name_can_be_run() -> None:
    named = {
        (name, str(block))
        for page in PAGES
        for block in blocks(page)
        if block.language in SHELLS
        for name in re.findall(r"\./scripts/[\w-]+", block.text)
    }
    assert [(name, where) for name, where in sorted(named) if not os.access(ROOT / name, os.X_OK)] == []


def test_an_example_compiles_and_says_what_it_shows() -> None:
    for example in sorted((ROOT / "examples").glob("*.py")):
        tree = ast.parse(example.read_text("utf-8"), str(example))
        assert ast.get_docstring(tree), f"{example.relative_to(ROOT)}: no docstring at its top"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest prints when this file runs over pages with one fault each."""
    root = tmp_path_factory.mktemp("project with spaces")
    here = root / "tests" / "docs"
    here.mkdir(parents=True)
    (here / "test_code_blocks.py").write_bytes(Path(__file__).read_bytes())
    (root / "tests" / "conftest.py").write_text(FAULTY_CONFTEST)
    for name, text in FAULTY_PAGES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    law = "tests/docs/test_code_blocks.py::test_the_blocks_of_a_page_run_in_order"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", law]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False).stdout


FAULTY_CONFTEST = """
import types, pytest

@pytest.fixture
def openai_server():
    return types.SimpleNamespace(base_url="http://127.0.0.1:9/v1")
"""

FAULTY_PAGES = {
    "README.md": """# One namespace

```python
import os
word = os.environ["OPENAI_BASE_URL"]
```

<!-- skip: needs a key -->
```python
raise RuntimeError
```

```python
print(word)
```

<!-- output -->
```text
http://127.0.0.1:9/v1
```
""",
    "docs/error.md": "1. First\n\n   ```python\n   x = 1\n   x / 0\n   ```\n",
    "docs/syntax.md": "```python\nx = \n```\n",
    "docs/output.md": "```python\nprint(1)\n```\n\n<!-- output -->\n```text\n2\n```\n",
    "docs/no_reason.md": "<!-- skip -->\n```python\n```\n",
    "docs/stray.md": "<!-- output -->\n\nText.\n",
    "docs/open.md": "Text.\n\n```python\n",
    "docs/test_fails.md": "<!-- test: test_it.py -->\n```python\ndef test_it():\n    assert 1 == 2\n```\n",
    "docs/test_empty.md": "<!-- test: test_it.py -->\n```python\nx = 1\n```\n",
    "docs/file_name.md": "<!-- file: ../bot.py -->\n```python\nx = 1\n```\n",
    "docs/file_syntax.md": "<!-- file: bot.py -->\n```python\nx = \n```\n",
    "docs/file_alone.md": "<!-- file: bot.py -->\n```python\nx = 1 / 0\n```\n",
    "docs/guides/file_tested.md": """<!-- file: bot.py -->
```python
import os

x = os.environ["OPENAI_BASE_URL"]
```

<!-- test: test_bot.py -->
```python
from bot import x


def test_x():
    assert x == "http://127.0.0.1:9/v1"
```
""",
}


@pytest.mark.parametrize(
    "line",
    [
        "11 failed, 2 passed, 1 skipped",
        "README.md:9: needs a key",
        "docs/error.md:5: ZeroDivisionError",
        'docs/syntax.md", line 2',
        "docs/output.md:6: not what the block above prints",
        "docs/no_reason.md:2: the reason is missing",
        "docs/stray.md:3: '<!-- output -->' above stands before no block",
        "docs/open.md:3: this fence is never closed",
        "docs/test_fails.md:2: the test fails",
        "assert 1 == 2",
        "docs/test_empty.md:2: the test fails",
        "docs/file_name.md:2: '../bot.py' is no name for a python file",
        'docs/file_syntax.md", line 3',
        "docs/file_alone.md: nothing below imports ['bot']",
    ],
)
def test_a_fault_is_reported_with_its_page_and_line(report: str, line: str) -> None:
    assert line in report
