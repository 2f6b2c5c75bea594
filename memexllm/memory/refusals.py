"""What databases refuse, in the same words."""

from __future__ import annotations

from memexllm.core.errors import DimensionMismatchError, MemoryNotFoundError, ValidationError


def unknown_memory(memory_id: str) -> MemoryNotFoundError:
    return MemoryNotFoundError(f"Memory not found: {memory_id}; add() makes one")


def refuse_taken(memory_id: str, taken: bool) -> None:
    if taken:
        raise ValidationError(f"memory {memory_id!r} exists already and says something else; update() changes it")


def said_already(memory_id: str, other: str) -> ValidationError:
    return ValidationError(f"memory {memory_id!r} would say what memory {other!r} of the same user says already")


def check_dimensions(stored: int | None, given: int, where: str) -> None:
    if stored is not None and stored != given:
        raise DimensionMismatchError(
            f"the vectors in {where} have {stored} dimensions and the embedding provider gives {given}; go on with the "
            "provider they were made by, or embed them again: manager.reembed(). Nothing was changed"
        )
