"""A storage is named by a path, a URL or the environment, wherever one is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from memexllm import AsyncHistoryManager, HistoryManager, MemoryStorage, SQLiteStorage, with_history
from memexllm.core.errors import (
    ConfigurationError,
    FactoryImportError,
    FactoryNotFoundError,
    FactoryReturnTypeError,
    FactoryRuntimeError,
    NoStorageError,
    ValidationError,
)
from memexllm.history.transfer import export_threads
from memexllm.storage import storage_from_url
from memexllm.storage.opening import is_dotted, scheme_of, server_class
from tests.history import my_backends
from tests.storage.custom import AsyncDictStorage, PlainStorage

HERE = "tests.history.my_backends"


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda value: monkeypatch.setenv("MEMEXLLM_STORAGE", value)


@pytest.fixture(autouse=True)
def _nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEMEXLLM_STORAGE", raising=False)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("chat.db", "chat.db"),
        ("sqlite:///chat.db", "chat.db"),
        ("SQLite:///chat.db", "chat.db"),
        ("sqlite:////var/chat.db", "/var/chat.db"),
        ("sqlite://", ":memory:"),
        (":memory:", ":memory:"),
        (Path("chat.db"), "chat.db"),
    ],
    ids=str,
)
def test_a_path_and_a_sqlite_url_name_a_file(url: Any, path: str) -> None:
    storage = storage_from_url(url)
    assert isinstance(storage, SQLiteStorage)
    assert storage.path == path
    assert isinstance(storage_from_url(url, asynchronous=True), SQLiteStorage)


def test_memory_is_a_new_storage_each_time() -> None:
    first, second = storage_from_url("memory:"), storage_from_url("memory:")
    assert isinstance(first, MemoryStorage)
    assert first is not second


@pytest.mark.parametrize(
    ("url", "scheme", "name"),
    [
        ("postgresql://h/d", "postgresql", "SQLStorage"),
        ("postgres://h/d", "postgresql", "SQLStorage"),
        ("postgresql+psycopg://h/d", "postgresql+psycopg", "SQLStorage"),
        ("mysql://h/d", "mysql", "SQLStorage"),
        ("mariadb://h/d", "mariadb", "SQLStorage"),
        ("sqlite+pysqlite:///x.db", "sqlite+pysqlite", "SQLStorage"),
        ("redis://h", "redis", "RedisStorage"),
        ("rediss://h", "rediss", "RedisStorage"),
        ("valkey://h", "redis", "RedisStorage"),
        ("unix:///run/redis.sock", "unix", "RedisStorage"),
        ("redis+cluster://h", "redis+cluster", "RedisStorage"),
    ],
)
def test_the_url_of_a_server_names_its_class(url: str, scheme: str, name: str) -> None:
    assert scheme_of(url) == scheme
    module = "memexllm.storage.redis" if name == "RedisStorage" else "memexllm.storage.sql"
    assert server_class(scheme, asynchronous=False) == (module, name)
    assert server_class(scheme, asynchronous=True) == (module, f"Async{name}")


@pytest.mark.parametrize("use", [storage_from_url, HistoryManager, AsyncHistoryManager])
def test_an_unknown_url_is_refused_without_its_password(use: Any) -> None:
    with pytest.raises(ConfigurationError, match="mongodb") as refusal:
        use("mongodb://ann:secret@h/d")
    assert "secret" not in str(refusal.value)


def test_a_wrong_url_is_refused_before_a_client_is_wrapped() -> None:
    with pytest.raises(ConfigurationError, match="mongodb"):
        with_history(storage="mongodb://h/d")


@pytest.mark.parametrize("path", [b"chat.db", ""], ids=["bytes", "empty"])
def test_what_names_no_place_is_refused(path: Any) -> None:
    with pytest.raises((ValidationError, TypeError)):
        storage_from_url(path)


@pytest.mark.parametrize(
    ("value", "dotted"),
    [
        ("my_backends.create", True),
        ("my_backends:create", True),
        ("my.backends.Backend.create", True),
        ("my_backends:db", True),
        ("chat.db", False),
        ("chat.sqlite3", False),
        ("./my_backends.create", False),
        ("/var/chat.history", False),
        ("chat", False),
        ("memory:", False),
        (":memory:", False),
        ("sqlite:///chat.db", False),
    ],
)
def test_what_looks_like_a_dotted_path_is_one(value: str, dotted: bool) -> None:
    assert is_dotted(value) is dotted


def test_a_file_that_exists_is_no_dotted_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_dotted("chat.history")
    Path("chat.history").touch()
    assert not is_dotted("chat.history")


def test_the_environment_names_the_storage_of_managers_and_clients(named: Any, tmp_path: Path) -> None:
    named(f"sqlite:///{tmp_path}/chat.db")
    with HistoryManager() as manager:
        manager.create_thread(thread_id="t")
    with HistoryManager(tmp_path / "chat.db") as manager:
        assert manager.get_thread("t").id == "t"
    with OpenAI(api_key="local") as api:
        client = with_history(api)
        assert client.history.get_thread("t").id == "t"
        client.history.close()
    export_threads(tmp_path / "chat.db", tmp_path / "export.jsonl")


@pytest.mark.parametrize("dotted", [f"{HERE}.create", f"{HERE}:create", f" {HERE}.Backend.create "])
def test_a_factory_makes_the_storage(named: Any, dotted: str) -> None:
    named(dotted)
    assert HistoryManager().storage is my_backends.KEPT
    assert AsyncHistoryManager().storage is my_backends.KEPT
    with OpenAI(api_key="local") as api:
        assert with_history(api).history.storage is my_backends.KEPT


def test_a_factory_may_make_any_storage(named: Any) -> None:
    named(f"{HERE}.create_plain")
    assert isinstance(HistoryManager().storage, PlainStorage)
    named(f"{HERE}.create_async")
    assert isinstance(AsyncHistoryManager().storage, AsyncDictStorage)
    with pytest.raises(ConfigurationError, match="use AsyncHistoryManager"):
        HistoryManager()


def test_one_factory_call_makes_the_storage_of_both_kinds_of_clients(named: Any) -> None:
    named(f"{HERE}.create_plain")
    wrap = with_history()
    with OpenAI(api_key="local") as api:
        storage = wrap(api).history.storage
        assert wrap(AsyncOpenAI(api_key="local")).history.storage is storage


@pytest.mark.parametrize(
    ("dotted", "error", "said"),
    [
        ("no_such_module.create", FactoryImportError, "no_such_module"),
        ("tests.history.no_such_module.create", FactoryImportError, "no_such_module"),
        ("tests.history.import_fails.create", FactoryImportError, "RuntimeError"),
        (f"{HERE}.no_such_name", FactoryNotFoundError, "no_such_name"),
        (f"{HERE}.number", FactoryReturnTypeError, "int"),
        (f"{HERE}.returns_a_dict", FactoryReturnTypeError, "dict"),
        (f"{HERE}.returns_the_class", FactoryReturnTypeError, "class MemoryStorage"),
        (f"{HERE}.is_asynchronous", FactoryReturnTypeError, "asynchronous"),
        (f"{HERE}.raises", FactoryRuntimeError, "KeyError"),
    ],
)
def test_each_way_a_factory_fails_is_an_error_of_its_own(named: Any, dotted: str, error: type, said: str) -> None:
    named(dotted)
    for use in (HistoryManager, AsyncHistoryManager, with_history):
        with pytest.raises(ConfigurationError) as failure:
            use()
        assert type(failure.value) is error
        assert said in str(failure.value)
        assert "MEMEXLLM_STORAGE" in str(failure.value)
        assert "password" not in str(failure.value)


def test_the_error_of_a_factory_is_the_cause(named: Any) -> None:
    named(f"{HERE}.raises")
    with pytest.raises(FactoryRuntimeError) as failure:
        HistoryManager()
    assert isinstance(failure.value.__cause__, KeyError)
    assert failure.value.__cause__.__traceback__ is not None


@pytest.mark.parametrize("value", [None, "", "  "])
def test_nothing_named_anywhere_is_an_error_that_says_what_to_do(named: Any, value: str | None) -> None:
    if value is not None:
        named(value)
    for use in (HistoryManager, AsyncHistoryManager, with_history):
        with pytest.raises(NoStorageError, match="MEMEXLLM_STORAGE"):
            use()


def test_a_storage_that_is_given_wins(named: Any) -> None:
    named(f"{HERE}.raises")
    storage = MemoryStorage()
    assert HistoryManager(storage).storage is storage
    with OpenAI(api_key="local") as api:
        assert with_history(api, storage=storage).history.storage is storage
        assert with_history(history_manager=HistoryManager(storage))(api).history.storage is storage
