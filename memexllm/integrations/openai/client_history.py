"""What a wrapped client and all its copies share: the manager, the options, and the turns not stored yet."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from memexllm.algorithms.base import BaseAlgorithm
from memexllm.algorithms.token_window import TokenWindowAlgorithm
from memexllm.core.errors import ConfigurationError, ValidationError
from memexllm.core.exchanges import Orphans
from memexllm.history.async_manager import AsyncHistoryManager
from memexllm.history.binding import bound_thread
from memexllm.history.flows import checked_thread_id
from memexllm.history.manager import HistoryManager
from memexllm.integrations.openai.info import ThreadNotGivenWarning
from memexllm.integrations.openai.merge import MERGE_MODES, MergeMode
from memexllm.integrations.openai.outbox import Outbox, outbox_of
from memexllm.integrations.openai.recalling import Recall
from memexllm.integrations.openai.wire import LEFT_OUT, ReplayReasoning

OnMissingThread = Literal["create", "ignore", "error"]
Inject = Literal["auto", "early", "late"]

THREAD_HEADER = "x-memexllm-thread-id"
DEFAULT_ALGORITHM = TokenWindowAlgorithm(max_tokens=0.8)
_LIBRARIES = ("memexllm", "openai", "asyncio")


OURS = ("thread_id", "merge", "turn_id", "expected_version")
"""The parameters of a call that are ours and are not sent."""


class _NotGiven:
    def __repr__(self) -> str:
        return "NOT_GIVEN"


NOT_GIVEN: Any = _NotGiven()
"""`thread_id` was left out; an explicit None means no history for this call."""


@dataclass(frozen=True)
class Options:
    thread_id: str | None = None
    on_missing_thread: OnMissingThread = "create"
    merge: MergeMode = "auto"
    orphans: Orphans = "drop"
    on_read_error: Literal["raise", "ignore"] = "raise"
    on_write_error: Literal["warn", "raise"] = "warn"
    serialize: bool = False
    journal: bool = False
    replay_reasoning: ReplayReasoning = "auto"
    inject: Inject = "auto"
    recall: Recall | None = None


@dataclass(slots=True)
class CallOptions:
    """What is ours of a call's parameters (`OURS`)."""

    thread_id: Any = NOT_GIVEN
    merge: MergeMode | None = None
    turn_id: Any = None
    expected_version: Any = None


def taken_out(params: dict[str, Any]) -> CallOptions:
    """What is ours, taken out of a call's parameters."""
    ours = CallOptions(**{name: params.pop(name) for name in OURS if name in params})
    if ours.merge is not None and ours.merge not in MERGE_MODES:
        raise ConfigurationError(f"merge is one of {', '.join(MERGE_MODES)}, not {ours.merge!r}")
    if ours.turn_id is not None and (not isinstance(ours.turn_id, str) or not ours.turn_id):
        raise ValidationError(f"turn_id is a string that is not empty, or None; got {ours.turn_id!r:.40}")
    if ours.expected_version is not None and type(ours.expected_version) is not int:
        raise ValidationError(f"expected_version is an integer or None, got {ours.expected_version!r:.40}")
    return ours


@dataclass
class Scope:
    """What `with_thread` and `for_user` bind a client to."""

    thread_id: str | None = None
    user_id: str | None = None


@dataclass(eq=False)
class ClientHistory:
    manager: HistoryManager | AsyncHistoryManager
    options: Options
    outbox: Outbox = field(init=False)
    _warned: bool = False

    def __post_init__(self) -> None:
        self.outbox = outbox_of(self.manager.port)

    @property
    def algorithm(self) -> BaseAlgorithm:
        """The manager's, or the wrapper's default: everything, up to 80 % of the model's window."""
        chooser = self.manager.chooser
        return DEFAULT_ALGORITHM if chooser is None else chooser

    @property
    def is_async(self) -> bool:
        return isinstance(self.manager, AsyncHistoryManager)

    def resolve(self, thread_id: Any, header: str | None, scope: Scope) -> str | None:
        """The call's thread: keyword, header, `with_thread`, `manager.thread()`, `with_history(thread_id=)`, else new.

        None is a call without history.
        """
        if thread_id is None:
            return None
        if thread_id is NOT_GIVEN or type(thread_id).__name__ in LEFT_OUT:
            named = (header, scope.thread_id, bound_thread(self.manager.storage), self.options.thread_id)
            thread_id = next((name for name in named if name is not None), None)
        if thread_id is not None:
            return checked_thread_id(thread_id)
        if self.options.on_missing_thread == "ignore":
            return None
        if self.options.on_missing_thread == "error":
            raise ValidationError(
                'this call names no thread and on_missing_thread="error"; give thread_id="…", or thread_id=None for a '
                "call without history"
            )
        return self._new_thread_id()

    def _new_thread_id(self) -> str:
        thread_id = self.manager.id_source()
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"this call names no thread, so its turn is stored in the new thread {thread_id!r} "
                "(history_of(response).thread_id). Give thread_id= to continue a conversation, thread_id=None for a "
                "call without history; this is said once",
                ThreadNotGivenWarning,
                stacklevel=callers_level(),
            )
        return thread_id


def keep_tools(params: dict[str, Any]) -> None:
    """Tools that can be read once become a list: they are counted before they are sent."""
    if isinstance(params.get("tools"), Iterator):
        params["tools"] = list(params["tools"])


def callers_level() -> int:
    """The `stacklevel` at which a warning names the line of the application that made the call."""
    level = 2
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _LIBRARIES:
        frame = frame.f_back
        level += 1
    return level


def pop_header(params: dict[str, Any]) -> str | None:
    """The thread named by the header, which is ours and is not sent."""
    given = params.get("extra_headers")
    if not given:
        return None
    headers, named = without_thread_header(given)
    if headers is not given:
        params["extra_headers"] = headers or None
    return named


def without_thread_header(given: Mapping[str, Any]) -> tuple[Mapping[str, Any], str | None]:
    """`given` itself when the header is not in it, else a copy without, and what it names."""
    named = [name for name in given if name.lower() == THREAD_HEADER]
    if not named:
        return given, None
    value = given[named[-1]]
    headers = {name: value for name, value in given.items() if name not in named}
    return headers, None if type(value).__name__ in LEFT_OUT else value
