"""Factories named in a setting: what is found, and the four ways in which it can go wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from memexllm.core.errors import (
    ConfigurationError,
    FactoryImportError,
    FactoryNotFoundError,
    FactoryReturnTypeError,
    FactoryRuntimeError,
)
from memexllm.core.factories import call_factory, checked_product, load_factory

MODULE = """
def make(*args, **kwargs):
    return (args, kwargs)

def breaks():
    raise KeyError("a secret")

class Database:
    @classmethod
    def create(cls):
        return cls()

a_number = 1
"""


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "their_package").mkdir()
    (tmp_path / "their_package" / "__init__.py").write_text("shadow = 'a name of the package'\n")
    (tmp_path / "their_package" / "backends.py").write_text(MODULE)
    (tmp_path / "their_package" / "fails.py").write_text("import not_installed_at_all\n")
    (tmp_path / "their_package" / "raises.py").write_text("raise ValueError('a secret')\n")
    (tmp_path / "their_package" / "shadow.py").write_text("def make():\n    return 1\n")
    (tmp_path / "their_package" / "typo.py").write_text("def make(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "their_package"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    "dotted",
    [
        "their_package.backends.make",
        "their_package.backends:make",
        "their_package.backends.Database",
        "their_package.backends.Database.create",
        "their_package.shadow.make",
    ],
)
def test_a_function_a_class_and_a_classmethod_are_found(dotted: str) -> None:
    assert callable(load_factory(dotted, "SETTING"))


@pytest.mark.parametrize(
    ("dotted", "error", "told"),
    [
        ("nothing_of_this_name.make", FactoryImportError, "no module named 'nothing_of_this_name'"),
        ("their_package.nothing.make", FactoryImportError, r"no module named 'their_package\.nothing'"),
        ("their_package.fails.make", FactoryImportError, "importing 'their_package.fails' raised ModuleNotFoundError"),
        ("their_package.raises.make", FactoryImportError, "raised ValueError"),
        ("their_package.typo.make", FactoryImportError, "raised SyntaxError"),
        ("make", FactoryImportError, "dotted path"),
        ("", FactoryImportError, "dotted path"),
        ("their_package..make", FactoryImportError, "dotted path"),
        ("their_package.backends.missing", FactoryNotFoundError, r"module 'their_package.backends' has no 'missing'"),
        ("their_package.missing", FactoryNotFoundError, "has no 'missing'"),
        ("their_package.backends.Database.missing", FactoryNotFoundError, "class 'Database' has no 'missing'"),
        ("their_package.backends.a_number", FactoryReturnTypeError, "of type int"),
    ],
)
def test_what_cannot_be_loaded_says_at_which_stage(dotted: str, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told) as caught:
        load_factory(dotted, "SETTING")
    assert "SETTING" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_error_while_importing_is_the_cause() -> None:
    with pytest.raises(FactoryImportError) as caught:
        load_factory("their_package.raises.make", "SETTING")
    assert isinstance(caught.value.__cause__, ValueError)


def test_an_error_inside_the_factory_is_the_cause_with_its_traceback() -> None:
    factory = load_factory("their_package.backends.breaks", "SETTING")
    with pytest.raises(FactoryRuntimeError, match=r"SETTING='their.breaks' raised KeyError") as caught:
        call_factory(factory, "their.breaks", "SETTING")
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.__cause__.__traceback__ is not None
    assert "secret" not in str(caught.value)


def test_arguments_reach_the_factory() -> None:
    factory = load_factory("their_package.backends.make", "SETTING")
    assert call_factory(factory, "x.y", "SETTING", 1, embeddings=2) == ((1,), {"embeddings": 2})


def test_a_product_of_another_type_is_refused() -> None:
    assert checked_product(1, int, "x.y", "SETTING") == 1
    with pytest.raises(FactoryReturnTypeError, match=r"SETTING='x.y' returned an object of type str; .* int"):
        checked_product("1", int, "x.y", "SETTING")


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (FactoryImportError, ImportError),
        (FactoryNotFoundError, AttributeError),
        (FactoryReturnTypeError, TypeError),
        (FactoryRuntimeError, RuntimeError),
    ],
)
def test_each_error_is_the_builtin_a_caller_would_catch(error: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(error, builtin)
    assert issubclass(error, ConfigurationError)
