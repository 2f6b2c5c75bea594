"""`Triple` and `GraphResult`: what a graph store takes and gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, overload

from memexllm.core.errors import ValidationError
from memexllm.core.moments import new_id


@dataclass(frozen=True)
class Triple:
    """`Triple("Ada", "works at", "Acme")`. `score` is set on what a search found, `user_id` on what was stored."""

    subject: str
    predicate: str
    object: str
    id: str = field(default_factory=new_id, compare=False)
    user_id: str | None = field(default=None, compare=False)
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any], compare=False)
    created_at: datetime | None = field(default=None, compare=False)
    score: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name in ("subject", "predicate", "object"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise ValidationError(f"a triple's {name} is a text that is not blank, not a {type(value).__name__}")

    def __repr__(self) -> str:
        """Names the triple without showing what it says."""
        return f"Triple(id={self.id!r}, user_id={self.user_id!r})"

    @property
    def text(self) -> str:
        return f"{self.subject} {self.predicate} {self.object}"


@dataclass(frozen=True)
class GraphResult(Sequence[Triple]):
    """Triples, of which it is a sequence."""

    triples: list[Triple]

    @property
    def entities(self) -> list[str]:
        """Every subject and object, once, in the order in which they appear."""
        return list(dict.fromkeys(end for triple in self.triples for end in (triple.subject, triple.object)))

    def __len__(self) -> int:
        return len(self.triples)

    @overload
    def __getitem__(self, index: int) -> Triple: ...
    @overload
    def __getitem__(self, index: slice) -> list[Triple]: ...
    def __getitem__(self, index: int | slice) -> Triple | list[Triple]:
        return self.triples[index]

    def __iter__(self) -> Iterator[Triple]:
        return iter(self.triples)
