"""`with_history`: a client that remembers."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, overload

from memexllm.algorithms.base import BaseAlgorithm
from memexllm.algorithms.foreign import as_algorithm
from memexllm.core.errors import ConfigurationError, NoStorageError
from memexllm.core.exchanges import Orphans
from memexllm.history.async_manager import AsyncHistoryManager
from memexllm.history.base import StorageLike, opened_for_clients
from memexllm.history.manager import HistoryManager
from memexllm.integrations.openai.client_history import (
    DEFAULT_ALGORITHM,
    ClientHistory,
    Inject,
    OnMissingThread,
    Options,
)
from memexllm.integrations.openai.duck import history_on_duck, shadowed
from memexllm.integrations.openai.merge import MERGE_MODES, MergeMode
from memexllm.integrations.openai.patches import is_sdk_client, warn_if_instrumented
from memexllm.integrations.openai.recalling import Recall
from memexllm.integrations.openai.wire import ReplayReasoning
from memexllm.storage.opening import SETTING
from memexllm.storage.port import StoragePort

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

    from memexllm.integrations.openai.typed import AsyncHistoryOpenAI, HistoryOpenAI

P = ParamSpec("P")


class ChatClient(Protocol):
    """What is wrapped besides the SDK's clients: anything with `chat.completions.create`."""

    @property
    def chat(self) -> Any: ...


Duck = TypeVar("Duck", bound=ChatClient)

_CHOICES = {
    "on_missing_thread": ("create", "ignore", "error"),
    "merge": MERGE_MODES,
    "orphans": ("drop", "placeholder", "error"),
    "on_read_error": ("raise", "ignore"),
    "on_write_error": ("warn", "raise"),
    "replay_reasoning": ("auto", "always", "never"),
    "inject": ("auto", "early", "late"),
}


class Wrapper:
    """What `with_history(...)` returns without a client: call it with one, or decorate a function that makes one."""

    def __init__(self, history: Callable[[bool], ClientHistory]) -> None:
        self._history = history

    @overload
    def __call__(self, client: OpenAI) -> HistoryOpenAI: ...
    @overload
    def __call__(self, client: AsyncOpenAI) -> AsyncHistoryOpenAI: ...
    @overload
    def __call__(self, client: Callable[P, OpenAI]) -> Callable[P, HistoryOpenAI]: ...
    @overload
    def __call__(self, client: Callable[P, AsyncOpenAI]) -> Callable[P, AsyncHistoryOpenAI]: ...
    @overload
    def __call__(
        self, client: Callable[P, Coroutine[Any, Any, OpenAI]]
    ) -> Callable[P, Coroutine[Any, Any, HistoryOpenAI]]: ...
    @overload
    def __call__(
        self, client: Callable[P, Coroutine[Any, Any, AsyncOpenAI]]
    ) -> Callable[P, Coroutine[Any, Any, AsyncHistoryOpenAI]]: ...
    @overload
    def __call__(self, client: Duck) -> Duck: ...
    def __call__(self, client: Any) -> Any:
        if inspect.isroutine(client):
            return self._decorated(client)
        if is_sdk_client(client):
            return self._wrapped(client)
        known = history_on_duck(client)
        if known is not None:
            return _same_or_refused(client, known, self._history(known.is_async))
        warn_if_instrumented(client)
        return shadowed(client, self._history(False))

    def _wrapped(self, client: Any) -> Any:
        from openai import AsyncOpenAI

        from memexllm.integrations.openai.clients import history_on, wrapped

        asynchronous = isinstance(client, AsyncOpenAI)
        history = self._history(asynchronous)
        known = history_on(client)
        if known is not None:
            return _same_or_refused(client, known, history)
        if not asynchronous and history.manager.port.asynchronous:
            raise ConfigurationError(
                f"{type(history.manager.storage).__name__} is asynchronous, and {type(client).__name__} is not; "
                "wrap an AsyncOpenAI, or use a synchronous storage"
            )
        recall = history.options.recall
        if not asynchronous and recall is not None and (part := recall.asynchronous_part()) is not None:
            raise ConfigurationError(f"recall searches with {part}, which is asynchronous; wrap an AsyncOpenAI")
        warn_if_instrumented(client)
        return wrapped(client, history)

    def _decorated(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def make_client_async(*args: Any, **kwargs: Any) -> Any:
                return self(await function(*args, **kwargs))

            return make_client_async

        @functools.wraps(function)
        def make_client(*args: Any, **kwargs: Any) -> Any:
            return self(function(*args, **kwargs))

        return make_client


class _Arguments(TypedDict, total=False):
    storage: StorageLike | None
    algorithm: BaseAlgorithm | None
    history_manager: HistoryManager | AsyncHistoryManager | None
    thread_id: str | None
    on_missing_thread: OnMissingThread
    merge: MergeMode
    orphans: Orphans
    on_read_error: Literal["raise", "ignore"]
    on_write_error: Literal["warn", "raise"]
    serialize: bool
    journal: bool
    replay_reasoning: ReplayReasoning
    inject: Inject
    recall: Recall | None
    plugins: Iterable[Any]


@overload
def with_history(client: None = None, **arguments: Unpack[_Arguments]) -> Wrapper: ...
@overload
def with_history(client: OpenAI, **arguments: Unpack[_Arguments]) -> HistoryOpenAI: ...
@overload
def with_history(client: AsyncOpenAI, **arguments: Unpack[_Arguments]) -> AsyncHistoryOpenAI: ...
@overload
def with_history(client: Duck, **arguments: Unpack[_Arguments]) -> Duck: ...
def with_history(
    client: Any = None,
    *,
    storage: StorageLike | None = None,
    algorithm: BaseAlgorithm | None = None,
    history_manager: HistoryManager | AsyncHistoryManager | None = None,
    thread_id: str | None = None,
    on_missing_thread: OnMissingThread = "create",
    merge: MergeMode = "auto",
    orphans: Orphans = "drop",
    on_read_error: Literal["raise", "ignore"] = "raise",
    on_write_error: Literal["warn", "raise"] = "warn",
    serialize: bool = False,
    journal: bool = False,
    replay_reasoning: ReplayReasoning = "auto",
    inject: Inject = "auto",
    recall: Recall | None = None,
    plugins: Iterable[Any] = (),
) -> Any:
    """A client whose calls continue threads: `with_history(OpenAI(), storage="chat.db")`.

    Without a client it returns a wrapper for clients, or for functions that make one. The wrapped client is a new one
    of the same class; the original stays as it is. Calls take `thread_id=` (None: no history for this call) and
    `merge=`. `storage` is a storage, a path of a SQLite file, or a URL. Without an `algorithm` everything is sent, up
    to 80 % of the model's window.

    - `thread_id`: the thread of calls that name none.
    - `on_missing_thread`: what is done when no thread is named anywhere: `"create"` makes a new one and warns once,
      `"ignore"` sends without history, `"error"` is a `ValidationError`.
    - `merge`: `"auto"` compares what is passed with what is stored, `"append"` takes all of it as new, `"replace"`
      makes it the thread.
    - `orphans`: what is done, in what is sent, with tool calls without results: dropped, answered by a placeholder,
      or refused.
    - `on_read_error`: raise `HistoryReadError` before the request, or send without history.
    - `on_write_error`: return the answer and keep the turn for the next call, or raise `HistoryWriteError`, which
      carries the answer.
    - `serialize`: calls on one thread wait for each other, within this process; a stream until it is read or closed.
    - `journal`: what a call brings is stored before its request, with the status `pending`.
    - `replay_reasoning`: `"auto"` sends reasoning back only to the server and model family it came from.
    - `inject`: where history enters the SDK; `"auto"` is early when somebody has patched `create`.
    - `recall`: with a `Recall`, what the window lost and what the user's other threads hold is searched, once a turn,
      and what answers the question is sent just before it.
    - `plugins`: are told of threads, messages and contexts; objects, classes, or names of installed ones.
    """
    if storage is None and history_manager is None and not os.environ.get(SETTING, "").strip():
        raise NoStorageError(
            "Either storage or history_manager must be provided: with_history(storage='chat.db')(OpenAI()); "
            f"or set {SETTING}"
        )
    if history_manager is not None and (storage is not None or algorithm is not None):
        raise ConfigurationError(
            "give either history_manager, which has a storage and an algorithm, or those themselves"
        )
    told = tuple(plugins)
    if history_manager is not None and told:
        raise ConfigurationError("history_manager has its own plugins: history_manager.load_plugin() adds one")
    options = _checked(
        Options(
            thread_id,
            on_missing_thread,
            merge,
            orphans,
            on_read_error,
            on_write_error,
            serialize,
            journal,
            replay_reasoning,
            inject,
            recall,
        )
    )
    made: dict[bool, ClientHistory] = {}
    manager_for = _managers(storage, algorithm, history_manager, told)

    def history(asynchronous: bool) -> ClientHistory:
        found = made.get(asynchronous)
        if found is None:
            found = made[asynchronous] = ClientHistory(manager_for(asynchronous), options)
        return found

    wrapper = Wrapper(history)
    return wrapper if client is None else wrapper(client)


def _managers(
    storage: StorageLike | None,
    algorithm: BaseAlgorithm | None,
    given: HistoryManager | AsyncHistoryManager | None,
    plugins: tuple[Any, ...],
) -> Callable[[bool], HistoryManager | AsyncHistoryManager]:
    """A manager for clients of either kind: the one that was given, or one made.

    A wrong URL is refused at once, and so is what is no algorithm.
    """
    if given is not None:
        return lambda asynchronous: given
    as_algorithm(algorithm)
    stored_at = opened_for_clients(storage)

    def manager(asynchronous: bool) -> HistoryManager | AsyncHistoryManager:
        stored = stored_at(asynchronous)
        use_async = asynchronous or StoragePort(stored).asynchronous
        kind = AsyncHistoryManager if use_async else HistoryManager
        return kind(stored, algorithm or DEFAULT_ALGORITHM, plugins=plugins)

    return manager


def _checked(options: Options) -> Options:
    recall: Any = options.recall
    if recall is not None and not isinstance(recall, Recall):
        raise ConfigurationError(f"recall is a Recall(...), not {type(recall).__name__}")
    for name, choices in _CHOICES.items():
        value = getattr(options, name)
        if value not in choices:
            raise ConfigurationError(f"{name} is one of {', '.join(map(repr, choices))}, not {value!r}")
    return options


def _same_or_refused(client: Any, known: ClientHistory, asked: ClientHistory) -> Any:
    same = known.manager is asked.manager or (
        known.manager.storage is asked.manager.storage and known.manager.algorithm is asked.manager.algorithm
    )
    if not same:
        raise ConfigurationError(
            "this client has a history already, over another storage or manager; wrap the original client instead"
        )
    return client
