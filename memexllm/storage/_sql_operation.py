"""One operation on a SQL database, as a value: what it does, and how it is recognised when its answer was lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from memexllm.storage._sql_dialects import Mode
from memexllm.storage._sql_transaction import Transaction

R = TypeVar("R")
_random = random.SystemRandom()


class Recovered(NamedTuple, Generic[R]):
    """The result of an earlier try."""

    result: R


@dataclass(slots=True)
class Operation(Generic[R]):
    """`name` completes "Failed to …".

    `quick` does the same in one statement, without a transaction around it; None when it changed nothing. `recover`
    says, in a new transaction, whether an earlier try was committed though its answer was lost; it is given the result
    of that try, if it is known.
    """

    name: str
    mode: Mode
    work: Callable[[Transaction], R]
    quick: Callable[[Transaction], R | None] | None = None
    recover: Callable[[Transaction, R | None], Recovered[R] | None] | None = None
    write_id: int = 0

    def __post_init__(self) -> None:
        if self.mode == "write":
            self.write_id = _random.getrandbits(62)
