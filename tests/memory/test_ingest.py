"""Readers: each kind of file gives its text, and what is no text says why."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memexllm.core.errors import UnreadableFileError, ValidationError
from memexllm.memory.chunking import CodeChunker, MarkdownChunker, SentenceChunker, chunker_for
from memexllm.memory.ingest import read_bytes, read_file
from memexllm.memory.ingest.html import html_text
from tests.memory.pdfs import encrypted, pdf

MARKDOWN = "# Title\r\n\r\nGröße 猫\n"


@pytest.mark.parametrize(
    ("name", "data", "kind", "language"),
    [
        ("notes.txt", b"text", "text", None),
        ("notes", b"text", "text", None),
        ("data.json", b"{}", "text", None),
        ("README.MD", b"# Title", "markdown", None),
        ("page.htm", b"<p>text", "html", None),
        ("page", b"\xef\xbb\xbf <!-- c --> <!DOCTYPE html><p>text", "html", None),
        ("saved.txt", b"<html><p>text", "html", None),
        ("bot.py", b"x = 1", "code", "python"),
        ("main.rs", b"fn main() {}", "code", "rust"),
        ("run", b"#!/usr/bin/env python3\n", "code", "python"),
        ("run", b"#!/bin/sh\n", "code", "shell"),
        ("book.pdf", pdf("text"), "pdf", None),
        ("book.txt", pdf("text"), "pdf", None),
    ],
)
def test_a_file_is_read_as_what_it_is(name: str, data: bytes, kind: str, language: str | None) -> None:
    document = read_bytes(data, name)
    assert (document.kind, document.metadata["kind"], document.metadata.get("language")) == (kind, kind, language)


def test_a_caller_who_knows_better_is_believed() -> None:
    assert read_bytes(b"# Title", "notes.txt", kind="markdown").kind == "markdown"
    with pytest.raises(ValidationError, match="one of text, markdown"):
        read_bytes(b"", kind="docx")


def test_text_is_kept_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_bytes(MARKDOWN.encode())
    document = read_file(path)
    assert document.text == MARKDOWN
    assert document.metadata == {"kind": "markdown", "encoding": "utf-8", "source": str(path)}
    assert document.notes == ()
    assert "Größe" not in repr(document)
    assert read_file(str(path)) == document


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=200))
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_text_with_its_mark_or_in_utf8_comes_back(encoding: str, text: str) -> None:
    text = "x" + text
    assert read_bytes(text.encode(encoding), "a.txt").text == text


@pytest.mark.parametrize(
    ("data", "text", "encoding"),
    [
        ("naïve “quotes” €".encode("cp1252"), "naïve “quotes” €", "cp1252"),
        (b"\x81 is no cp1252, \xe9", "\x81 is no cp1252, é", "latin-1"),
    ],
)
def test_what_is_no_utf8_is_read_as_western_with_a_note(data: bytes, text: str, encoding: str) -> None:
    document = read_bytes(data, "old.txt")
    assert (document.text, document.metadata["encoding"]) == (text, encoding)
    assert "no UTF-8" in document.notes[0]
    assert "quotes" not in document.notes[0]


def test_an_encoding_that_is_given_is_all_that_is_tried() -> None:
    assert read_bytes("猫".encode("shift_jis"), "a.txt", encoding="shift_jis").text == "猫"
    assert read_bytes("猫".encode("utf-16-le"), "a.txt", encoding="utf-16-le").text == "猫"
    with pytest.raises(UnreadableFileError, match="byte 0 is not ascii"):
        read_bytes("猫".encode(), "a.txt", encoding="ascii")
    with pytest.raises(ValidationError, match="not known"):
        read_bytes(b"", "a.txt", encoding="klingon")


@pytest.mark.parametrize(
    ("name", "head", "encoding", "used"),
    [
        ("a.html", '<meta charset="iso-8859-1">', "cp1252", "cp1252"),
        ("a.html", "<meta http-equiv=x content='text/html; charset=koi8-r'>", "koi8-r", "koi8-r"),
        ("a.xhtml", "<?xml version='1.0' encoding='iso-8859-2'?>", "iso-8859-2", "iso8859-2"),
        ("a.html", "<meta charset=utf-16>", "utf-8", "utf-8"),
        ("a.py", "# -*- coding: koi8-r -*-\n", "koi8-r", "koi8-r"),
    ],
)
def test_a_declared_encoding_is_used(name: str, head: str, encoding: str, used: str) -> None:
    word = "Привет" if encoding == "koi8-r" else "é"
    document = read_bytes((head + word).encode(encoding), name)
    assert word in document.text
    assert (document.metadata["encoding"], document.notes) == (used, ())


def test_a_wrong_declaration_is_noted() -> None:
    document = read_bytes(b"<meta charset=klingon><p>caf\xc3\xa9", "a.html")
    assert (document.text, document.metadata["encoding"]) == ("café", "utf-8")
    assert "klingon" in document.notes[0]
    document = read_bytes(b"<meta charset=ascii><p>\x81\x8d", "a.html")
    assert "declares cp1252" in document.notes[0]


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.docx", b"PK\x03\x04....", "ZIP archive"),
        ("a.txt", b"\x89PNG\r\n", "an image"),
        ("a.txt", b"text\x00text", "binary"),
        ("a.bin", bytes(range(1, 32)) * 9, "binary"),
        ("a.pdf", b"<html>not found", "no PDF"),
        ("a.txt", b"\xff\xfea", "mark of utf-16-le"),
        ("a.pdf", b"%PDF-1.4\nrest is missing", "cannot be read"),
        ("a.pdf", pdf("text")[:200], "cannot be read"),
        ("a.pdf", pdf("", ""), "none of its 2 pages"),
        ("a.pdf", encrypted(pdf("secret"), "key"), "encrypted; pass password="),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_text_says_why(name: str, data: bytes, told: str) -> None:
    with pytest.raises(UnreadableFileError, match=told) as refused:
        read_bytes(data, name)
    assert name in str(refused.value)


def test_a_file_larger_than_allowed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * 1001)
    assert len(read_file(path, max_bytes=1001).text) == 1001
    with pytest.raises(UnreadableFileError, match=r"1,001 bytes are more than max_bytes=1,000"):
        read_file(path, max_bytes=1000)
    with pytest.raises(UnreadableFileError):
        read_bytes(b"x" * 11, max_bytes=10)


def test_a_pipe_is_not_read_beyond_what_is_allowed(tmp_path: Path) -> None:
    endless = Path("/dev/zero")
    if not endless.exists():
        pytest.skip("/dev/zero is not there")
    with pytest.raises(UnreadableFileError, match="max_bytes"):
        read_file(endless, max_bytes=10_000_000)


def test_a_missing_file_is_the_usual_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "nothing.txt")
    with pytest.raises(IsADirectoryError):
        read_file(os.fspath(tmp_path))


def test_an_empty_file_is_an_empty_text() -> None:
    assert read_bytes(b"", "a.txt").text == ""
    assert read_bytes(b"", "a.html").text == ""


def test_a_pdf_gives_its_pages_and_where_they_begin() -> None:
    document = read_bytes(pdf("First page\nsecond line", "", "Third page", title="A book"), "book.pdf")
    assert document.text.split() == ["First", "page", "second", "line", "Third", "page"]
    assert document.metadata == {"kind": "pdf", "n_pages": 3, "title": "A book"}
    assert document.notes == ("1 of 3 pages hold no text",)
    assert document.page_of(document.text.index("second")) == 1
    assert document.page_of(document.text.index("Third")) == 3
    assert read_bytes(b"no pages", "a.txt").page_of(0) is None


def test_an_encrypted_pdf_opens_with_its_password() -> None:
    assert read_bytes(encrypted(pdf("secret"), "key"), "a.pdf", password="key").text == "secret"
    assert read_bytes(encrypted(pdf("secret"), ""), "a.pdf").text == "secret"
    with pytest.raises(UnreadableFileError, match="not with this password"):
        read_bytes(encrypted(pdf("secret"), "key"), "a.pdf", password="wrong")


@settings(deadline=None, max_examples=40)  # pypdf takes its time over what is broken
@given(st.data())
def test_a_damaged_pdf_is_read_or_refused(data: st.DataObject) -> None:
    whole = pdf("First page", "Second page")
    place = data.draw(st.integers(5, len(whole) - 1))
    damage = data.draw(st.binary(max_size=20))
    try:
        document = read_bytes(
            whole[:place] + damage + whole[place + len(damage) + data.draw(st.integers(0, 9)) :], "a.pdf"
        )
    except UnreadableFileError:
        return
    assert document.text


def test_progress_is_told_and_can_end_the_reading() -> None:
    told: list[tuple[int, int]] = []
    read_bytes(pdf("one", "two"), "a.pdf", progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]
    told.clear()
    page = b"<p>text</p>" * 100_000
    read_bytes(page, "a.html", progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (len(page), len(page))
    assert len(told) == 2

    class StopReadingError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise StopReadingError

    with pytest.raises(StopReadingError):
        read_bytes(pdf("one"), "a.pdf", progress=stop)


PAGE = """<!DOCTYPE html>
<html><head><title>Cats &amp;
 dogs</title><style>p { color: red }</style><script>if (a < b) "</p>" </script></head>
<body><!-- a comment --><h1>Hi   there</h1><p>One<br>two &lt;3 &#8364; a < b<p>Three <b>bo</b>ld <img alt="a cat" src=x>
<ul><li>a<li>b</ul><table><tr><td>1<td>2</tr><tr><th>3<td>4</table><pre>def f():
    return 1

f()</pre>end<svg><text>drawn</text></svg> <template><p>t</template>last &#99999999999;
 <a title="a > b">link</a></body></html>"""


def test_a_page_is_read_as_a_reader_sees_it() -> None:
    text, title = html_text(PAGE)
    assert title == "Cats & dogs"
    assert text.splitlines() == [
        "# Hi there",
        "",
        "One",
        "two <3 € a < b",
        "",
        "Three bold a cat",
        "",
        "- a",
        "- b",
        "",
        "1 | 2",
        "3 | 4",
        "",
        "def f():",
        "    return 1",
        "",
        "f()",
        "",
        "end last \ufffd link",
    ]


@given(st.text(st.characters(exclude_characters="<>&", exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=40))
def test_the_words_of_a_page_are_all_there(word: str) -> None:
    text, _ = html_text(f"<script>{word}no</script><div a='>'><p>{word}</p><!-- {word}no --></div>{word}")
    assert text.split() == [*word.split(), *word.split()]


@given(st.text("<>!-/ab=\"'& \n?scriptle", max_size=80))
def test_any_markup_is_read(markup: str) -> None:
    html_text(markup)


@pytest.mark.parametrize(
    "piece",
    ["<", "<!--", "<a ", "</", "<![", "<a b='", '<a="', "&", "&#", "<td>x", "<svg>", "<script>", "<pre>\n", "<p a=b c"],
)
def test_broken_pages_take_no_more_than_their_share_of_time(piece: str) -> None:
    """The standard library's parser takes minutes for some of these."""
    began = time.process_time()
    html_text(piece * (100_000 // len(piece)))
    assert time.process_time() - began < 3


def test_metadata_can_be_stored_as_json() -> None:
    for data, name in ((pdf("a"), "a.pdf"), (PAGE.encode(), "a.html"), (b"x", "a.py")):
        metadata: dict[str, Any] = read_bytes(data, name).metadata
        assert json.loads(json.dumps(metadata)) == metadata


def test_a_kind_of_file_has_its_chunker() -> None:
    assert isinstance(chunker_for("markdown"), MarkdownChunker)
    assert isinstance(chunker_for("html"), MarkdownChunker)
    assert isinstance(chunker_for("pdf"), SentenceChunker)
    assert repr(chunker_for("code", "rust")) == repr(CodeChunker(language="rust"))
