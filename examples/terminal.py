"""How the examples print: plain text, and colours where somebody looks at a terminal."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence


def colours_wanted() -> bool:
    """On a terminal, unless NO_COLOR is set (https://no-color.org); FORCE_COLOR is for output that is passed on."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")


_COLOURS = colours_wanted()


def bold(text: str) -> str:
    return _styled(1, text)


def dim(text: str) -> str:
    return _styled(2, text)


def green(text: str) -> str:
    return _styled(32, text)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, stretch: int) -> str:
    """Columns as wide as their longest cell; column `stretch` is cut to what the terminal has left."""
    cells = [[" ".join(cell.split()) for cell in row] for row in (heads, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    left = shutil.get_terminal_size().columns - 2 * len(widths) - (sum(widths) - widths[stretch])
    widths[stretch] = max(len(heads[stretch]), min(widths[stretch], left))
    head, *body = ("  ".join(map(_fitted, row, widths)).rstrip() for row in cells)
    rule = "  ".join("-" * width for width in widths)
    return "\n".join(f"  {line}" for line in (bold(head), dim(rule), *body))


def _fitted(cell: str, width: int) -> str:
    return cell.ljust(width) if len(cell) <= width else cell[: width - 3] + "..."


def _styled(code: int, text: str) -> str:
    return f"\033[{code}m{text}\033[0m" if _COLOURS else text
