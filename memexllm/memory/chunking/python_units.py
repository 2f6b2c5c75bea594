"""The functions, classes and other statements of a Python text, by Python's own parser."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from memexllm.memory.chunking.cutting import line_starts

_MAX_PARSED_CHARS = 500_000
"""The parser's tree takes a hundred times the text's memory; what is larger was not written by hand."""

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True)
class Unit:
    start: int
    end: int
    symbol: str = ""
    """`name`, or `Class.name`; empty for statements that define no function or class."""


def python_units(text: str, max_chars: int) -> list[Unit] | None:
    """What follows each other from the beginning of the text to its end; None when it is no Python, or too large.

    A class of more than `max_chars` is its methods, its own lines before them under its name.
    """
    if len(text) > _MAX_PARSED_CHARS:
        return None
    try:
        with warnings.catch_warnings():
            # An invalid escape in somebody's text is not the caller's.
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if not any(isinstance(node, _Definition | ast.Import | ast.ImportFrom) for node in tree.body):
        # A sentence of one word is Python as well.
        return None
    starts = line_starts(text)
    return list(_units(text, tree.body, Unit(0, len(text)), starts, max_chars))


def _units(text: str, body: Sequence[ast.stmt], whole: Unit, starts: Sequence[int], max_chars: int) -> list[Unit]:
    """The whole, cut before each definition of the body and after it."""
    found: list[Unit] = []
    place = whole.start
    for node, following in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, _Definition):
            continue
        start = max(place, _first_char(text, node, starts, place))
        end = _after(node, following, starts, whole.end)
        if end <= start:
            continue
        if place < start:
            found.append(Unit(place, start, whole.symbol))
        found.extend(_definition(text, node, Unit(start, end, _joined(whole.symbol, node.name)), starts, max_chars))
        place = end
    if place < whole.end:
        found.append(Unit(place, whole.end, whole.symbol))
    return found


def _definition(text: str, node: _Definition, unit: Unit, starts: Sequence[int], max_chars: int) -> list[Unit]:
    if isinstance(node, ast.ClassDef) and unit.end - unit.start > max_chars:
        return _units(text, node.body, unit, starts, max_chars)
    return [unit]


def _first_char(text: str, node: _Definition, starts: Sequence[int], earliest: int) -> int:
    """Where its decorators begin, or the comments directly above."""
    line = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    while line > 0 and starts[line - 1] >= earliest and text[starts[line - 1] : starts[line]].lstrip().startswith("#"):
        line -= 1
    return starts[line]


def _after(node: ast.stmt, following: ast.stmt | None, starts: Sequence[int], end: int) -> int:
    """Where the next line begins; where something else follows on the same line, nothing is cut."""
    line = node.end_lineno or node.lineno
    if following is not None and following.lineno <= line:
        line = following.end_lineno or following.lineno
    return min(starts[line], end) if line < len(starts) else end


def _joined(outer: str, name: str) -> str:
    return f"{outer}.{name}" if outer else name
