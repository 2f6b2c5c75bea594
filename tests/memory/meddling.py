"""A client of a server on which something else happens just before a command, or whose answers get lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis


class Meddled:
    """Hands on every command."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._meddlings: dict[int, Callable[[], Any]] = {}
        self._lost: set[int] = set()
        self._n_commands = 0
        self.n_lost = 0

    def before(self, place: int, meddle: Callable[[], Any]) -> None:
        """Do this before the `place`-th command from now on."""
        self._meddlings[self._n_commands + place] = meddle

    def lose_the_answer_of(self, place: int) -> None:
        """The `place`-th command from now on is done, and the connection breaks before that is told."""
        self._lost.add(self._n_commands + place)

    def execute_command(self, *args: Any, **options: Any) -> Any:
        self._n_commands += 1
        here = self._n_commands
        if here in self._meddlings:
            self._meddlings[here]()
        answer = self._client.execute_command(*args, **options)
        if here in self._lost:
            self.n_lost += 1
            raise redis.ConnectionError("the answer was lost")
        return answer
