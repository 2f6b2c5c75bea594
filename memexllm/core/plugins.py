"""Plugins: code of yours that is told what happens, and can break nothing.

    class Analytics(Plugin):
        def on_memory_added(self, memory):
            count("memory_added", memory.kind)

A hook may be `def` or `async def` (the latter for asynchronous managers). What it raises is logged and never reaches
the caller. Installed packages announce theirs under the entry point group `memexllm.plugins`.
"""

from __future__ import annotations

import inspect
import logging
import traceback
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import entry_points
from typing import Any

from memexllm.core.errors import ConfigurationError
from memexllm.core.factories import call_factory
from memexllm.core.flow import Flow, Step

ENTRY_POINT_GROUP = "memexllm.plugins"
HOOKS = ("on_memory_added", "on_query_executed", "on_message_added", "on_thread_created", "on_context_built")

_log = logging.getLogger("memexllm.plugins")


class Plugin:
    """Override the hooks you need; those you leave cost nothing.

    What a hook is handed is its own copy. A hook runs before the call it is told of returns: long work belongs
    elsewhere. Any object that has some of these methods is a plugin as well.
    """

    def on_loaded(self, manager: Any) -> Any:
        """`manager` tells this plugin from now on; to be kept, as it may be half made yet.

        What it raises reaches whoever loads the plugin, which is not loaded then. Never `async def`.
        """

    def on_memory_added(self, memory: Any) -> Any:
        """A record was stored; not called for one that was there already."""

    def on_query_executed(self, query: str, results: Sequence[Any]) -> Any:
        """Memory was searched for `query`; `results` are the records found, the best first."""

    def on_message_added(self, thread_id: str, message: Any) -> Any:
        """A message was stored in the thread: one that was new, also when it says an older one again."""

    def on_thread_created(self, thread: Any) -> Any:
        """A thread was created; `thread` has no messages, which are told of one by one. Not called for imports."""

    def on_context_built(self, thread_id: str, messages: Sequence[Any]) -> Any:
        """The context of a call was put together; `messages` is what will be sent, in wire form."""


class Plugins:
    """The plugins of one manager, in the order they were loaded. `asynchronous` says whether their hooks may be.

    `owner` is the manager, which each of them gets to know.
    """

    def __init__(self, plugins: Iterable[Any] = (), *, asynchronous: bool, owner: Any = None) -> None:
        self._asynchronous = asynchronous
        self._owner = owner
        self._loaded: tuple[Any, ...] = ()
        self._hooks: dict[str, tuple[Any, ...]] = {}
        for plugin in plugins:
            self.load(plugin)

    def __iter__(self) -> Any:
        return iter(self._loaded)

    def has(self, hook: str) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._hooks.get(hook))

    def load(self, plugin: Any) -> Any:
        """Add a plugin: an object, a class that needs no arguments, or an entry point's name. Returns the object."""
        if isinstance(plugin, str):
            plugin = _installed(plugin)
        if isinstance(plugin, type):
            plugin = plugin()
        hooks = [name for name in HOOKS if callable(getattr(plugin, name, None))]
        if not hooks:
            raise ConfigurationError(f"{type(plugin).__name__} is no plugin: it has none of {', '.join(HOOKS)}")
        refused = [name for name in hooks if inspect.iscoroutinefunction(getattr(plugin, name))]
        if refused and not self._asynchronous:
            raise ConfigurationError(
                f"{type(plugin).__name__}.{refused[0]} is async def, which a synchronous manager cannot call; "
                "use the asynchronous one"
            )
        told = getattr(plugin, "on_loaded", None)
        if inspect.iscoroutinefunction(told):
            raise ConfigurationError(f"{type(plugin).__name__}.on_loaded is async def, and nobody awaits it")
        if self._owner is not None and callable(told):
            told(self._owner)
        self._keep((*self._loaded, plugin))
        return plugin

    def unload(self, plugin: Any) -> None:
        """Take out a plugin that was loaded: the object, not another that equals it."""
        left = tuple(loaded for loaded in self._loaded if loaded is not plugin)
        if len(left) == len(self._loaded):
            raise ConfigurationError(f"this {type(plugin).__name__} was not loaded here")
        self._keep(left)

    def tell(self, hook: str, shown: Callable[[], tuple[Any, ...]]) -> Flow[None]:
        """Call the hook of each plugin that has it; `shown()` makes the arguments anew for each.

        What one raises is logged, by its place and not its text.
        """
        for plugin in self._hooks.get(hook, ()):
            method = getattr(plugin, hook)
            args = shown()
            try:
                yield Step(method, args, blocking=not inspect.iscoroutinefunction(method))
            except Exception as error:  # noqa: BLE001 - the door: a plugin breaks no call
                _log.warning("%s.%s raised %s", type(plugin).__name__, hook, _told(error))

    def _keep(self, plugins: tuple[Any, ...]) -> None:
        # Replaced, never changed: a call that is under way goes on with those it began with.
        self._hooks = {hook: tuple(plugin for plugin in plugins if _has(plugin, hook)) for hook in HOOKS}
        self._loaded = plugins


def installed_plugins() -> list[str]:
    """Names under which installed packages announce plugins, in alphabetical order."""
    return sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)})


def _installed(name: str) -> Any:
    points = list(entry_points(group=ENTRY_POINT_GROUP, name=name))
    if not points:
        known = ", ".join(installed_plugins()) or "none"
        raise ConfigurationError(f"no installed package has a plugin {name!r}; there are: {known}")
    setting = f"the entry point {name!r} of {ENTRY_POINT_GROUP}"
    return call_factory(points[0].load, points[0].value, setting)


def _has(plugin: Any, hook: str) -> bool:
    own = getattr(type(plugin), hook, None)
    return callable(getattr(plugin, hook, None)) and own is not getattr(Plugin, hook)


def _told(error: Exception) -> str:
    """The error's type and where it was raised; its text may hold what somebody said."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
