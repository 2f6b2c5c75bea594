"""Text of others made safe to show: a terminal obeys control characters, and bidi overrides deceive its reader.

What is replaced is shown as a Python escape (`\\x1b`, `\\u202e`), so that nothing is hidden.
"""

from __future__ import annotations

import re

# C0 (ESC, BEL, backspace, carriage return), DEL, C1 (CSI and OSC in one character), line and paragraph separators,
# bidi embeddings, overrides and isolates, interlinear annotations, lone surrogates, and tags (invisible letters).
_UNSAFE = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u206f\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff"
_IN_TEXT = re.compile(f"[{_UNSAFE}]")
_IN_LINE = re.compile(f"[\t\n{_UNSAFE}]")


def visible(text: str) -> str:
    """`text` with its lines and tabs, and with everything else a terminal would obey made visible."""
    return _IN_TEXT.sub(_escaped, text.replace("\r\n", "\n"))


def visible_line(text: str) -> str:
    """`text` as one line: an id, a title, a snippet."""
    return _IN_LINE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
