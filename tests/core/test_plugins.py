"""Plugins: told what happens, and unable to break anything."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from memexllm import AsyncMemoryManager, MemoryManager, Plugin
from memexllm.core.errors import ConfigurationError, FactoryRuntimeError
from memexllm.core.flow import arun, run
from memexllm.core.plugins import ENTRY_POINT_GROUP, HOOKS, Plugins, installed_plugins


class Recording(Plugin):
    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def on_memory_added(self, memory: Any) -> None:
        self.told.append(("added", memory.text))

    def on_query_executed(self, query: str, results: Any) -> None:
        self.told.append((query, [record.text for record in results]))


class AsyncRecording(Plugin):
    def __init__(self) -> None:
        self.told: list[str] = []

    async def on_memory_added(self, memory: Any) -> None:
        await asyncio.sleep(0)
        self.told.append(memory.text)


class Breaking(Plugin):
    def on_memory_added(self, memory: Any) -> None:
        raise RuntimeError(f"cannot take {memory.text}")

    def on_query_executed(self, query: str, results: Any) -> None:
        results.clear()
        raise KeyError(query)


class Meddling(Plugin):
    def on_memory_added(self, memory: Any) -> None:
        memory.metadata["changed"] = True

    def on_query_executed(self, query: str, results: Any) -> None:
        results[0].metadata["changed"] = True
        results.clear()


class Awaitable(Plugin):
    """An ordinary function that returns something to await."""

    def on_memory_added(self, memory: Any) -> Any:
        return asyncio.sleep(0)


def test_a_plugin_is_told_what_is_added_and_searched() -> None:
    memory, plugin = MemoryManager("memory:"), Recording()
    assert memory.load_plugin(plugin) is plugin
    memory.add("likes tea")
    memory.add("likes tea")
    memory.search("tea", limit=1)
    assert plugin.told == [("added", "likes tea"), ("tea", ["likes tea"])]
    memory.unload_plugin(plugin)
    memory.add("likes bread")
    assert len(plugin.told) == 2
    with pytest.raises(ConfigurationError):
        memory.unload_plugin(plugin)


def test_an_asynchronous_hook_is_awaited() -> None:
    async def main() -> None:
        plugins = AsyncRecording(), Recording()
        async with AsyncMemoryManager("memory:", plugins=plugins) as memory:
            await memory.add("likes tea")
        assert (plugins[0].told, plugins[1].told) == (["likes tea"], [("added", "likes tea")])

    asyncio.run(main())


def test_an_asynchronous_hook_is_refused_where_nobody_can_await_it() -> None:
    with pytest.raises(ConfigurationError, match=r"AsyncRecording\.on_memory_added is async def"):
        MemoryManager("memory:", plugins=[AsyncRecording()])


def test_an_error_in_a_plugin_is_logged_by_its_place_and_breaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    plugin = Recording()
    memory = MemoryManager("memory:", plugins=[Breaking(), Awaitable(), plugin])
    with caplog.at_level(logging.DEBUG):
        memory.add("a secret")
        assert [record.text for record in memory.search("secret", limit=1)] == ["a secret"]
    assert plugin.told == [("added", "a secret"), ("secret", ["a secret"])]
    told = [record.getMessage() for record in caplog.records if record.name == "memexllm.plugins"]
    assert told[0].startswith("Breaking.on_memory_added raised RuntimeError at ")
    assert Path(__file__).name in told[0]
    assert [line.split(" at ")[0] for line in told[1:]] == [
        "Awaitable.on_memory_added raised ConfigurationError",
        "Breaking.on_query_executed raised KeyError",
    ]
    assert "secret" not in caplog.text


def test_what_a_plugin_does_to_what_it_is_shown_changes_nothing() -> None:
    memory = MemoryManager("memory:", plugins=[Meddling()])
    added = memory.add("tea")
    found = memory.search("tea")
    assert (added.metadata, found[0].metadata, memory.get(added.id).metadata) == ({}, {}, {})


def test_any_object_with_a_hook_is_a_plugin_and_others_are_none() -> None:
    class Plain:
        told = 0

        def on_memory_added(self, memory: Any) -> None:
            Plain.told += 1

    memory = MemoryManager("memory:", plugins=[Plain])
    memory.add("tea")
    assert Plain.told == 1
    with pytest.raises(ConfigurationError, match="on_memory_added"):
        memory.load_plugin(object())


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_told_under_either_driver(hook: str) -> None:
    told: list[tuple[Any, ...]] = []
    plugin = type("Mine", (Plugin,), {hook: lambda self, *args: told.append(args)})()
    for asynchronous in (False, True):
        plugins = Plugins([plugin], asynchronous=asynchronous)
        for name in HOOKS:
            flow = plugins.tell(name, lambda: ("a", "b"))
            asyncio.run(arun(flow)) if asynchronous else run(flow)
    assert told == [("a", "b"), ("a", "b")]


def test_an_installed_package_announces_its_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_plugins.py").write_text(
        "class Analytics:\n    def on_memory_added(self, memory):\n        Analytics.told = memory.text\n"
    )
    info = tmp_path / "their_plugins-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-plugins\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{ENTRY_POINT_GROUP}]\nanalytics = their_plugins:Analytics\nbroken = their_plugins:Missing\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert {"analytics", "broken"} <= set(installed_plugins())
    memory = MemoryManager("memory:", plugins=["analytics"])
    memory.add("tea")
    assert sys.modules["their_plugins"].Analytics.told == "tea"
    with pytest.raises(FactoryRuntimeError, match="'broken'"):
        memory.load_plugin("broken")
    with pytest.raises(ConfigurationError, match=r"'nobody'.*analytics"):
        memory.load_plugin("nobody")
    monkeypatch.delitem(sys.modules, "their_plugins")


class Knowing(Plugin):
    manager: Any = None

    def on_loaded(self, manager: Any) -> None:
        if self.manager is not None:
            raise ConfigurationError("one manager is enough")
        self.manager = manager

    def on_memory_added(self, memory: Any) -> None: ...


def test_a_plugin_gets_to_know_its_manager_and_may_refuse_it() -> None:
    plugin = Knowing()
    with MemoryManager(":memory:", plugins=[plugin]) as first, MemoryManager(":memory:") as second:
        assert plugin.manager is first
        with pytest.raises(ConfigurationError, match="one manager is enough"):
            second.load_plugin(plugin)
        assert second.plugins == ()


def test_what_is_never_awaited_may_not_be_asynchronous() -> None:
    class Late(Recording):
        async def on_loaded(self, manager: Any) -> None: ...

    with pytest.raises(ConfigurationError, match="nobody awaits it"):
        AsyncMemoryManager(":memory:", plugins=[Late])
