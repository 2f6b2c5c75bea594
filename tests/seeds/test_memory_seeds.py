"""The guides on custom providers and on custom vector databases: their code runs as it stands there.

The guides lie outside the repository; `MEMEXLLM_SEEDS` names their folder (CI sets it). Only the package's name in
import lines is another, and names a guide does not define are supplied.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

import memexllm
from memexllm import AsyncMemoryManager, Memory, MemoryManager, OpenMemory, generate_id
from memexllm.core.errors import (
    FactoryImportError,
    FactoryNotFoundError,
    FactoryReturnTypeError,
    FactoryRuntimeError,
    MemoryNotFoundError,
    NotSupportedError,
    ProviderError,
)
from memexllm.memory import EmbeddingProvider, MemoryVectorDatabase, create_memory_vector_db
from memexllm.memory.embeddings import HashingEmbeddings
from memexllm.storage import StorageBackend

FOLDER = os.environ.get("MEMEXLLM_SEEDS")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="MEMEXLLM_SEEDS names no folder with the guides")

PACKAGES = re.compile(r"^(\s*(?:from|import) +)(?:openmemory|agent_memory_server)\b", re.MULTILINE)
SETTING = "MEMORY_VECTOR_DB_FACTORY"


def blocks(number: str) -> list[str]:
    (guide,) = Path(str(FOLDER)).glob(f"{number}_*.txt")
    found = re.findall(r"```python\n(.*?)```", guide.read_text(), re.DOTALL)
    return [PACKAGES.sub(r"\1memexllm", block) for block in found]


def run_block(block: str, **supplied: Any) -> dict[str, Any]:
    """The names that are there after the block has run."""
    namespace: dict[str, Any] = {"__name__": "guide", **supplied}
    exec(compile(block, "guide", "exec"), namespace)  # noqa: S102 - running it is the point
    return namespace


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(SETTING, raising=False)


# Custom providers.


class Model:
    """What a guide's `load_your_model` may load."""

    def encode(self, text: str) -> Any:
        row = np.zeros(768, dtype="float32")
        for word in text.lower().split():
            row[zlib.crc32(word.encode()) % 768] += 1
        return row

    def encode_batch(self, texts: list[str]) -> Any:
        return np.stack([self.encode(text) for text in texts])


def test_a_custom_embedding_provider_is_registered_and_used() -> None:
    provider_block = blocks("000")[0]
    names = run_block(provider_block, OpenMemory=OpenMemory, load_your_model=lambda path: Model())
    om = names["om"]
    assert issubclass(names["CustomEmbeddingProvider"], EmbeddingProvider)
    assert isinstance(om.vector_database.embeddings, names["CustomEmbeddingProvider"])
    om.add("the cat sat", user_id="ada")
    assert om.search("cat", user_id="ada")[0].score == pytest.approx(3**-0.5)
    om.close()


@pytest.fixture
def backend(redis_server: str) -> Iterator[Any]:
    storage_block = blocks("000")[1].replace("redis://localhost", redis_server)  # where Redis is
    names = run_block(storage_block, redis=redis, Memory=Memory, np=np, generate_id=generate_id, OpenMemory=OpenMemory)
    yield names
    names["om"].vector_database.backend.client.flushdb()
    names["om"].vector_database.backend.client.close()


def test_a_custom_storage_backend_keeps_memories_whole(backend: dict[str, Any]) -> None:
    om = backend["om"]
    assert issubclass(backend["RedisStorage"], StorageBackend)
    added = om.add("Grüße, 你好 🙂", user_id="ada", metadata={"nested": {"list": [1, None, True]}})
    assert om.get(added.id) == added
    with pytest.raises(MemoryNotFoundError):
        om.get("not there")
    with pytest.raises(MemoryNotFoundError):
        om.get(added.id, user_id="bob")


def test_a_backend_whose_search_is_left_out_says_so(backend: dict[str, Any]) -> None:
    with pytest.raises(NotSupportedError, match=r"\[RedisStorage\] search failed"):
        backend["om"].search("anything")


def test_a_custom_chunker_is_registered_and_a_file_ingested(tmp_path: Path) -> None:
    om = MemoryManager("memory:")
    (tmp_path / "document.pdf").write_bytes(ONE_PAGE_PDF)
    names = run_block(blocks("000")[2], om=om)
    assert names["CustomChunker"]().chunk("text") == []
    assert om.count() == 0  # the guide's chunker makes no chunks
    assert om.ingest_file("document.pdf").n_added == 1
    assert "Hello" in om.search("hello")[0].text


def test_the_guides_plugin_is_told() -> None:
    om = MemoryManager("memory:")
    names = run_block(blocks("000")[3], om=om, Memory=Memory)
    (plugin,) = om.plugins
    assert isinstance(plugin, names["AnalyticsPlugin"])
    told: list[tuple[str, dict[str, Any]]] = []
    plugin.track_event = lambda name, data: told.append((name, data))
    om.add("likes tea", metadata={"n": 1})
    om.search("tea")
    assert told == [("memory_added", {"n": 1}), ("query", {"query": "tea", "result_count": 1})]


# Custom vector databases.


def test_the_interface_of_the_guide_is_ours() -> None:
    names = run_block(blocks("001")[1])
    custom = names["MyCustomBackend"]
    assert custom.__abstractmethods__ == frozenset()
    ours = set(MemoryVectorDatabase.__abstractmethods__)
    assert ours == {name for name, _ in inspect.getmembers(custom, inspect.isfunction) if name in vars(custom)}
    for name in ours:
        theirs, mine = inspect.signature(getattr(custom, name)), inspect.signature(getattr(MemoryVectorDatabase, name))
        assert [(p.name, p.default) for p in theirs.parameters.values() if p.kind is not p.VAR_KEYWORD] == [
            (p.name, p.default) for p in mine.parameters.values() if p.kind is not p.VAR_KEYWORD
        ]


def test_a_method_that_was_left_empty_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    custom = run_block(blocks("001")[1])["MyCustomBackend"]

    async def main() -> None:
        with pytest.raises(ProviderError, match=r"\[MyCustomBackend\] add_memories failed: .*NoneType"):
            await AsyncMemoryManager(custom()).add("tea")

    asyncio.run(main())


REST = '''
class MyCustomMemoryVectorDatabase(MyCustomMemoryVectorDatabase):
    """The guide's class with the methods it leaves to the reader."""

    async def add_memories(self, memories):
        self.__dict__.setdefault("kept", []).extend(memories)
        return [memory.id for memory in memories]

    async def search_memories(self, query, **kwargs):
        return MemoryRecordResults(memories=[MemoryRecordResult(m.text, id=m.id, dist=0.5) for m in self.kept])

    async def delete_memories(self, memory_ids):
        self.kept = [memory for memory in self.kept if memory.id not in memory_ids]

    async def update_memories(self, memories):
        return [memory.id for memory in memories]

    async def count_memories(self, **filter_kwargs):
        return len(self.kept)

    async def list_memories(self, offset=0, limit=100, **filter_kwargs):
        return MemoryRecordResults(memories=self.kept[offset:][:limit], total=len(self.kept), next_offset=None)
'''


@pytest.fixture
def my_backends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The guide's module `my_backends`, made whole, where the interpreter finds it."""
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "my_backends.py"
    path.write_text(f"{blocks('001')[2]}\n{REST}")
    yield path
    sys.modules.pop("my_backends", None)


@pytest.mark.parametrize("name", ["create_my_backend", "MyCustomMemoryVectorDatabase", "create_later", "Made.create"])
def test_the_environment_names_the_factory(my_backends: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with my_backends.open("a") as file:
        file.write("\nasync def create_later(embeddings):\n    return create_my_backend(embeddings)\n")
        file.write("\nclass Made:\n    @classmethod\n    def create(cls, embeddings):\n")
        file.write("        return create_my_backend(embeddings)\n")
    monkeypatch.setenv(SETTING, f"my_backends.{name}")
    embeddings = HashingEmbeddings()

    async def main() -> None:
        memory = AsyncMemoryManager(embeddings=embeddings)
        added = await asyncio.gather(*(memory.add(f"tea {n}") for n in range(3)))
        assert await memory.count() == 3
        assert [record.score for record in await memory.search("tea")] == [0.5] * 3
        await memory.delete(added[0].id)
        assert type(memory.vector_database).__name__ == "MyCustomMemoryVectorDatabase"
        assert memory.vector_database.embeddings is embeddings
        assert isinstance(await create_memory_vector_db(embeddings), MemoryVectorDatabase)

    asyncio.run(main())


def test_an_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, "nothing.there")
    assert MemoryManager("memory:").count() == 0


def test_a_synchronous_manager_takes_no_asynchronous_database(
    my_backends: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SETTING, "my_backends.create_my_backend")
    with pytest.raises(memexllm.ConfigurationError, match="AsyncMemoryManager"):
        MemoryManager()
    with my_backends.open("a") as file:
        file.write("\nasync def create_later(embeddings):\n    return create_my_backend(embeddings)\n")
    sys.modules.pop("my_backends")
    monkeypatch.setenv(SETTING, "my_backends.create_later")
    with pytest.raises(memexllm.ConfigurationError, match=r"create_later.*AsyncMemoryManager"):
        MemoryManager()


@pytest.mark.parametrize(
    ("dotted", "source", "error"),
    [
        ("my_backends.create", "import not_installed_at_all", FactoryImportError),
        ("no_such_module.create", "", FactoryImportError),
        ("my_backends.create", "", FactoryNotFoundError),
        ("my_backends.create", "def create(embeddings):\n    return {}", FactoryReturnTypeError),
        ("my_backends.create", "async def create(embeddings):\n    return {}", FactoryReturnTypeError),
        ("my_backends.create", "create = 1", FactoryReturnTypeError),
        ("my_backends.create", "def create(embeddings):\n    return {}['x']", FactoryRuntimeError),
        ("my_backends.create", "def create(embeddings):\n    import not_installed_at_all", FactoryRuntimeError),
        ("my_backends.create", "async def create(embeddings):\n    return {}['x']", FactoryRuntimeError),
        ("my_backends.create", "def create():\n    return {}", FactoryRuntimeError),
    ],
    ids=range(10),
)
def test_each_mistake_in_a_factory_has_an_error_of_its_own(
    my_backends: Path, dotted: str, source: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    my_backends.write_text(source)
    monkeypatch.setenv(SETTING, dotted)

    async def main() -> None:
        with pytest.raises(error, match=f"{SETTING}='{dotted}'"):
            await AsyncMemoryManager().count()

    asyncio.run(main())


def test_the_guides_first_sketch_defines_a_factory() -> None:
    names = run_block(blocks("001")[0], MyCustomMemoryVectorDatabase=lambda embeddings: ("made with", embeddings))
    assert names["create_my_backend"]("embeddings") == ("made with", "embeddings")


ONE_PAGE_PDF = b"""%PDF-1.4
1 0 obj << /Type /Catalog /Pages 2 0 R >> endobj
2 0 obj << /Type /Pages /Kids [3 0 R] /Count 1 >> endobj
3 0 obj << /Type /Page /Parent 2 0 R /MediaBox [0 0 300 300] /Contents 4 0 R
  /Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >> endobj
4 0 obj << /Length 46 >> stream
BT /F1 24 Tf 50 150 Td (Hello from a PDF) Tj ET
endstream endobj
"""


def with_cross_references(body: bytes) -> bytes:
    """A PDF file says where in it each of its objects begins."""
    places = [match.start() for match in re.finditer(rb"^\d+ 0 obj", body, re.MULTILINE)]
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"xref\n0 %d\n0000000000 65535 f \n%strailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n"
    return body + end % (len(places) + 1, table, len(places) + 1, len(body))


ONE_PAGE_PDF = with_cross_references(ONE_PAGE_PDF)
