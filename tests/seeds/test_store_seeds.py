"""The guide on custom providers of stores: its code runs as it stands there.

The guide lies outside the repository; `MEMEXLLM_SEEDS` names its folder (CI sets it). Its text has lost the indentation
of its code, which is given back here, one digit a line; only the package's name in import lines is another.
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any, ClassVar

import pytest

from memexllm import Memio, ProviderError
from memexllm.memory import FactStore
from memexllm.memory.stores import VectorDocumentStore
from memexllm.testing import FactStoreConformance
from tests.memory.chroma_double import ChromaDouble

FOLDER = os.environ.get("MEMEXLLM_SEEDS")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="MEMEXLLM_SEEDS names no folder with the guides")

PACKAGE = re.compile(r"^(from|import) memio\b", re.MULTILINE)
STORE = (
    "000000111121222222123444444333231232312222222123345454532312222212334444444333231232312222123443444433423122222123"
    "345454323"
)
USE, COMBINE, BROKEN, WRAP = "000112211110", "00110", "01100", "00101"


def block(first: str, after: str, indentation: str) -> str:
    """The guide's lines from the one that begins with `first` to before `after`."""
    (guide,) = Path(str(FOLDER)).glob("003_*.txt")
    text = guide.read_text("utf-8")
    start = text.index(f"\n{first}") + 1
    lines = text[start : text.index(after, start)].rstrip("\n").split("\n")
    indented = ["    " * int(depth) + line for depth, line in zip(indentation, lines, strict=True)]
    return PACKAGE.sub(r"\1 memexllm", "\n".join(indented))


def run_block(source: str, **supplied: Any) -> dict[str, Any]:
    """The names that are there after the block has run."""
    namespace: dict[str, Any] = {"__name__": "guide", **supplied}
    exec(compile(source, "guide", "exec"), namespace)  # noqa: S102 - running it is the point
    return namespace


def fact_store() -> Any:
    source = block("from __future__ import annotations", "Every method is async", STORE)
    return run_block(source)["InMemoryFactStore"]


def test_the_guides_store_is_one_to_us() -> None:
    assert isinstance(fact_store()(), FactStore)


class TestTheGuidesStore(FactStoreConformance):
    """What the guide's store does otherwise than its guide and our laws say."""

    deviations: ClassVar = {
        "test_law02_what_is_returned_is_the_callers": "it hands out what it stores",
        "test_law05_nobody_deletes_everything_by_saying_nothing": "delete_all() deletes everything",
        "test_law05_what_is_deleted_is_gone": "it looks for the whole query",
        "test_law06_a_user_sees_his_own_facts_only": "a user whose name is empty sees everyone's",
    }

    @pytest.fixture
    def store(self) -> Any:
        return fact_store()()


def test_the_guides_store_is_used_through_the_client(capsys: pytest.CaptureFixture[str]) -> None:
    source = block("import asyncio\nfrom memio import Memio", "You can combine", USE)
    run_block(source, InMemoryFactStore=fact_store())
    added, found = capsys.readouterr().out.splitlines()
    assert found == f"[{added}]"
    assert "user_id='alice'" in added


def test_what_the_guides_store_raises_reaches_the_caller_as_it_is() -> None:
    client = Memio(facts=fact_store()())
    with pytest.raises(ProviderError, match=r"^\[in-memory\] get failed: 'nothing'$") as error:
        asyncio.run(client.facts.get(fact_id="nothing"))
    assert isinstance(error.value.__cause__, KeyError)


def test_errors_are_wrapped_as_the_guide_wraps_them() -> None:
    source = block("from memio.exceptions import ProviderError\ntry:", "ProviderError takes", WRAP)
    with pytest.raises(ProviderError, match=r"^\[my-provider\] add failed: division by zero$") as error:
        run_block(source.replace("# ... your backend call ...", "1 / 0"))  # the call that is left to the reader
    assert isinstance(error.value.cause, ZeroDivisionError)


def test_custom_and_built_in_stores_are_combined() -> None:
    source = block("from memio.providers.chroma", "5. Runtime", COMBINE)
    client = run_block(source, Memio=Memio, InMemoryFactStore=fact_store(), chroma_client=ChromaDouble())["client"]

    async def main() -> None:
        await client.documents.add(content="tea is made of leaves", doc_id="tea", user_id="ada")
        (found,) = await client.documents.search(query="leaves", user_id="ada")
        assert (found.id, found.content) == ("tea", "tea is made of leaves")

    asyncio.run(main())
    assert (client.history, client.graph) == (None, None)
    mixed = Memio(facts=fact_store()(), documents=VectorDocumentStore("memory:"))
    assert type(mixed.documents) is VectorDocumentStore


def test_a_broken_store_is_refused_at_once() -> None:
    source = block("class BrokenStore:", "This check runs", BROKEN)
    promised = source.rsplit("# TypeError: ", 1)[1].strip()
    with pytest.raises(TypeError) as refused:
        run_block(source, Memio=Memio, Fact=object)
    assert str(refused.value) == (
        f"{promised}: missing get, search, update, delete, delete_all, get_all; add() lacks user_id, agent_id, metadata"
    )
