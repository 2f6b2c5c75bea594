"""The two shapes foreign JSON has once it is looked at: an object and a list."""

from __future__ import annotations

from typing import Any, TypeAlias, TypeGuard

JSONObject: TypeAlias = dict[str, Any]


def is_object(value: object) -> TypeGuard[JSONObject]:
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def object_at(owner: JSONObject, key: str) -> JSONObject:
    """`owner[key]` when it is an object, else an empty one."""
    value = owner.get(key)
    return value if is_object(value) else {}


def objects_at(owner: JSONObject, key: str) -> list[JSONObject]:
    """The objects in the list `owner[key]`; anything else there is passed over."""
    value = owner.get(key)
    return [item for item in value if is_object(item)] if is_list(value) else []


def strings_at(owner: JSONObject, key: str) -> list[str]:
    """The strings in the list `owner[key]`; anything else there is passed over."""
    value = owner.get(key)
    return [item for item in value if isinstance(item, str)] if is_list(value) else []


def string_at(owner: JSONObject, key: str) -> str:
    value = owner.get(key)
    return value if isinstance(value, str) else ""
