"""Running a kit of ours on somebody's classes, in a process of its own with no plugin of ours."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BARE = ("-p", "no:asyncio", "-p", "no:hypothesispytest", "-p", "no:timeout", "-p", "no:xdist", "-W", "error", "-rf")


def kit_run(pytester: pytest.Pytester, source: str, *more: str) -> pytest.RunResult:
    """`more` are further arguments of pytest."""
    pytester.makepyfile(test_mine=source)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        return pytester.runpytest_subprocess(*BARE, *more)


def failures(
    pytester: pytest.Pytester, kit: str, fixture: str, home: str, names: Iterable[str], setting: str = "pass"
) -> dict[str, set[str]]:
    """Class name → the laws it failed, of classes in the module `home`."""
    classes = "".join(
        f"class Test{name}({kit}):\n    {setting}\n"
        f"    @pytest.fixture\n    def {fixture}(self):\n        return home.{name}()\n\n"
        for name in names
    )
    head = f"import pytest\nfrom memexllm.testing import {kit}\nimport {home} as home\n\n"
    result = kit_run(pytester, head + classes)
    assert "errors" not in result.parseoutcomes(), result.outlines
    found: defaultdict[str, set[str]] = defaultdict(set)
    for line in result.outlines:
        if match := re.match(r"FAILED \S+::Test(\w+)::(\w+)", line):
            found[match[1]].add(match[2])
    return dict(found)
