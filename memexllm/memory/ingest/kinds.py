"""Which kind a file is: by its name, and by its first bytes where the name says nothing or something else."""

from __future__ import annotations

import re
from pathlib import PurePath

from memexllm.core.errors import UnreadableFileError

_MARKDOWN = {".md", ".markdown", ".mdown", ".mkd"}
_HTML = {".html", ".htm", ".xhtml"}
LANGUAGES = {
    ".py": "python",
    ".pyi": "python",
    ".js": "javascript",
    ".jsx": "javascript",
    ".mjs": "javascript",
    ".ts": "typescript",
    ".tsx": "typescript",
    ".java": "java",
    ".kt": "kotlin",
    ".scala": "scala",
    ".c": "c",
    ".h": "c",
    ".cc": "cpp",
    ".cpp": "cpp",
    ".hpp": "cpp",
    ".cs": "csharp",
    ".go": "go",
    ".rs": "rust",
    ".rb": "ruby",
    ".php": "php",
    ".swift": "swift",
    ".lua": "lua",
    ".sh": "shell",
    ".bash": "shell",
    ".sql": "sql",
    ".css": "css",
}
_HTML_START = re.compile(
    rb"\s*(?:<!--.{0,2000}?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)
_SHEBANG = re.compile(rb"#!\s*\S*?(?:env\s+)?(?:\S*/)?(python|bash|sh|node|ruby|perl)", re.IGNORECASE)
_PDF_WITHIN = 1024
# First bytes → what it is, and what to do.
_BINARIES: dict[bytes, str] = {
    b"PK\x03\x04": "a ZIP archive (Word, Excel, EPUB and OpenDocument files are such); save it as text, HTML or PDF",
    b"\xd0\xcf\x11\xe0": "an Office file of before 2007; save it as text, HTML or PDF",
    b"\x1f\x8b": "compressed by gzip; unpack it first",
    b"BZh": "compressed by bzip2; unpack it first",
    b"\xfd7zXZ": "compressed by xz; unpack it first",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"GIF8": "an image",
    b"SQLite format 3": "an SQLite database",
    b"\x7fELF": "a program",
    b"MZ\x90": "a program",
    b"{\\rtf": "an RTF file; save it as text, HTML or PDF",
}


def kind_of(name: str, start: bytes) -> tuple[str, str | None]:
    """The kind and, of code, the language. `start` are the file's first bytes; one known to be no text is refused."""
    suffix = PurePath(name).suffix.lower()
    if start.lstrip().startswith(b"%PDF-") or (suffix == ".pdf" and b"%PDF-" in start[:_PDF_WITHIN]):
        return "pdf", None
    if suffix == ".pdf":
        raise UnreadableFileError(f"{name}: this is no PDF file, whatever its name says: it does not begin with %PDF-")
    for magic, what in _BINARIES.items():
        if start.startswith(magic):
            raise UnreadableFileError(f"{name}: this is {what}")
    if suffix in LANGUAGES:
        return "code", LANGUAGES[suffix]
    if suffix in _MARKDOWN:
        return "markdown", None
    if suffix in _HTML or (suffix in ("", ".txt") and _HTML_START.match(start.removeprefix(b"\xef\xbb\xbf"))):
        return "html", None
    if not suffix and (shebang := _SHEBANG.match(start)):
        return "code", {"bash": "shell", "sh": "shell", "node": "javascript"}.get(
            word := shebang[1].decode().lower(), word
        )
    return "text", None
