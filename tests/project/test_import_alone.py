"""The library without its optional packages: what needs none of them works, end to end."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WITHOUT = ("openai", "redis", "sqlalchemy", "tiktoken", "numpy")


def alone(program: str, folder: Path) -> str:
    """What the program prints in a fresh interpreter that cannot import the packages of `WITHOUT`."""
    blocked = f"import sys\nfor name in {WITHOUT!r}:\n    sys.modules[name] = None\n"
    code = f"{blocked}sys.path.insert(0, {str(ROOT)!r})\n{textwrap.dedent(program)}"
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", WITHOUT)
def test_the_packages_cannot_be_imported(name: str, tmp_path: Path) -> None:
    program = f"""
        try:
            import {name}
        except ImportError:
            print("not there")
        """
    assert alone(program, tmp_path) == "not there\n"


def test_a_storage_says_which_extra_it_needs(tmp_path: Path) -> None:
    program = """
        from memexllm.core.errors import MissingDependencyError
        from memexllm.storage import AsyncRedisStorage, RedisStorage

        for storage in (RedisStorage, AsyncRedisStorage):
            try:
                storage("redis://localhost")
            except MissingDependencyError as error:
                print(error)
        """
    assert alone(program, tmp_path).splitlines() == [
        'RedisStorage needs the redis package: pip install "memexllm[redis]"',
        'AsyncRedisStorage needs the redis package: pip install "memexllm[redis]"',
    ]


def test_threads_are_kept_and_windowed(tmp_path: Path) -> None:
    program = """
        from memexllm import FIFOAlgorithm, HistoryManager, SQLiteStorage

        with HistoryManager(SQLiteStorage("chat.db"), FIFOAlgorithm(max_messages=2)) as manager:
            manager.create_thread(thread_id="t", user_id="ada", title="Names")
            manager.add_message("t", "Be brief.", "system")
            for text in ("one", "two", "three"):
                manager.add_message("t", text, "user")

        with HistoryManager("chat.db", FIFOAlgorithm(max_messages=2)) as manager:
            print([message.text for message in manager.get_messages("t")])
            print([message.text for message in manager.context("t")])
            print([(thread.id, thread.user_id, thread.title) for thread in manager.list_threads()])
            print(manager.delete_thread("t"), manager.list_threads())
        """
    assert alone(program, tmp_path).splitlines() == [
        "['Be brief.', 'one', 'two', 'three']",
        "['Be brief.', 'two', 'three']",
        "[('t', 'ada', 'Names')]",
        "True []",
    ]


def test_threads_are_kept_and_windowed_with_asyncio(tmp_path: Path) -> None:
    program = """
        import asyncio

        from memexllm import AsyncHistoryManager, FIFOAlgorithm, SQLiteStorage

        async def main():
            async with AsyncHistoryManager(SQLiteStorage("chat.db"), FIFOAlgorithm(max_messages=2)) as manager:
                await manager.create_thread(thread_id="t")
                for text in ("one", "two", "three"):
                    await manager.add_message("t", text, "user")
                print([message.text for message in await manager.get_messages("t")])
                print([message.text for message in await manager.context("t")])
                print(await manager.delete_thread("t"), await manager.list_threads())

        asyncio.run(main())
        """
    assert alone(program, tmp_path).splitlines() == ["['one', 'two', 'three']", "['two', 'three']", "True []"]


def test_memory_says_which_package_it_needs(tmp_path: Path) -> None:
    program = """
        from memexllm import MemexLLMError, MemoryManager, MemoryRecord
        from memexllm.memory import InMemoryVectorDatabase, SQLiteVectorDatabase, StorageBackend

        print(MemoryRecord.from_dict(MemoryRecord("tea").to_dict()).text)
        try:
            MemoryManager("memory.db")
        except MemexLLMError as error:
            print(type(error).__name__, error)
        """
    assert alone(program, tmp_path).splitlines() == [
        "tea",
        'MissingDependencyError HashingEmbeddings needs the numpy package: pip install "memexllm[memory]"',
    ]


def test_a_client_of_another_library_remembers(tmp_path: Path) -> None:
    program = """
        from types import SimpleNamespace

        from memexllm import history_of, with_history

        def create(*, messages, **params):
            text = f"I received {len(messages)}."
            return SimpleNamespace(
                choices=[SimpleNamespace(message={"role": "assistant", "content": text}, finish_reason="stop")]
            )

        def ask(text):
            client = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
            client = with_history(client, storage="chat.db")
            answer = client.chat.completions.create(
                model="any", messages=[{"role": "user", "content": text}], thread_id="t"
            )
            print(answer.choices[0].message["content"], history_of(answer).saved)

        ask("one")
        ask("two")
        """
    assert alone(program, tmp_path).splitlines() == ["I received 1. True", "I received 3. True"]


def test_an_awaited_client_of_another_library_remembers(tmp_path: Path) -> None:
    program = """
        import asyncio
        from types import SimpleNamespace

        from memexllm import with_history

        async def create(*, messages, **params):
            text = f"I received {len(messages)}."
            return {"choices": [{"message": {"role": "assistant", "content": text}}]}

        async def main():
            client = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
            client = with_history(client, storage="chat.db")
            for text in ("one", "two"):
                answer = await client.chat.completions.create(
                    model="any", messages=[{"role": "user", "content": text}], thread_id="t"
                )
                print(answer["choices"][0]["message"]["content"])

        asyncio.run(main())
        """
    assert alone(program, tmp_path).splitlines() == ["I received 1.", "I received 3."]


@pytest.mark.parametrize("name", ["SQLStorage", "AsyncSQLStorage"])
def test_a_storage_without_its_packages_says_what_to_install(name: str, tmp_path: Path) -> None:
    program = f"""
        from memexllm.core.errors import MissingDependencyError
        from memexllm.storage import {name}

        try:
            {name}("postgresql://localhost/chat")
        except MissingDependencyError as error:
            print(error)
        """
    expected = f'{name} needs the sqlalchemy package: pip install "memexllm[sql]"\n'
    assert alone(program, tmp_path) == expected
