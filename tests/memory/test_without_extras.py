"""Without NumPy, pypdf and SQLAlchemy: what needs neither works, and what needs one says which extra brings it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
sys.modules.update(dict.fromkeys(["numpy", "pypdf", "sqlalchemy"]))
from memexllm.core.errors import MissingDependencyError
from memexllm.memory import PostgresVectorDatabase
from memexllm.memory.chunking import MarkdownChunker
from memexllm.memory.embeddings import CallableEmbeddings, HashingEmbeddings
from memexllm.memory.ingest import read_bytes
from memexllm.testing.server import OpenAIServer

class Letters:
    dimensions = 1
    def embed(self, text): return [1.0]
    def embed_batch(self, texts): return [[1.0] for _ in texts]

print(MarkdownChunker().chunk(read_bytes(b"<h1>Title</h1>text", "a.html").text))
for made in (
    HashingEmbeddings,
    lambda: CallableEmbeddings(len),
    lambda: read_bytes(b"%PDF-1.4", "a.pdf"),
    lambda: PostgresVectorDatabase("postgresql://host/name", Letters()),
):
    try:
        made()
    except MissingDependencyError as error:
        print(error)
"""


def test_an_extra_is_needed_only_by_what_uses_it() -> None:
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "['# Title\\n\\ntext']",
        'HashingEmbeddings needs the numpy package: pip install "memexllm[memory]"',
        'CallableEmbeddings needs the numpy package: pip install "memexllm[memory]"',
        'reading PDF files needs the pypdf package: pip install "memexllm[pdf]"',
        'PostgresVectorDatabase needs the sqlalchemy package: pip install "memexllm[postgres]"',
    ], done.stderr
