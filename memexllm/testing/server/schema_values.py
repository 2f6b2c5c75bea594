"""Values that fit a JSON schema, taken from a text where something there fits."""

from __future__ import annotations

import re
from typing import Any

from memexllm.testing.server.jsontypes import JSONObject, is_list, is_object, object_at

_PLACE = r"[A-Z][\w'\u2019-]*(?: [A-Z][\w'\u2019-]*)*"
_PLACES = re.compile(rf"\b(?:in|at|for|near|to) ({_PLACE}(?:(?:, and |, | and ){_PLACE})*)")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_QUOTED = re.compile(r"[\"\u201c]([^\"\u201d]+)[\"\u201d]")
_PLACE_NAMES = re.compile(r"city|location|place|town|country|destination|region|where", re.IGNORECASE)
_MAX_DEPTH = 8


def places_in(text: str) -> list[str]:
    """ "in Paris and Rome" gives both; of several such phrases the last counts."""
    found = _PLACES.findall(text)
    return re.split(r", and |, | and ", found[-1]) if found else []


def value_for(schema: JSONObject, text: str) -> Any:
    """An object with the required properties, or with all there are if none is required."""
    return _value({"type": "object", **schema}, "", text, object_at(schema, "$defs"), _MAX_DEPTH)


def _value(schema: JSONObject, name: str, text: str, definitions: JSONObject, depth: int) -> Any:
    schema = _resolved(schema, definitions)
    for fixed in ("const", "default"):
        if fixed in schema:
            return schema[fixed]
    if is_list(options := schema.get("enum")) and options:
        return next((option for option in options if str(option).lower() in text.lower()), options[0])
    match _type_name(schema):
        case "object":
            return _object(schema, text, definitions, depth)
        case "array":
            return [_value(object_at(schema, "items"), name, text, definitions, depth - 1)] if depth else []
        case "integer":
            return int(_number(text))
        case "number":
            return _number(text)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return _string(name, text)


def _resolved(schema: JSONObject, definitions: JSONObject) -> JSONObject:
    """Behind `$ref`, and the first alternative that is not null."""
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return object_at(definitions, reference.rpartition("/")[2])
    for several in ("anyOf", "oneOf", "allOf"):
        options = schema.get(several)
        for option in options if is_list(options) else []:
            if is_object(option) and option.get("type") != "null":
                return _resolved(option, definitions)
    return schema


def _type_name(schema: JSONObject) -> object:
    kind = schema.get("type")
    if is_list(kind):
        return next((one for one in kind if one != "null"), "null")
    return "object" if kind is None and "properties" in schema else kind


def _object(schema: JSONObject, text: str, definitions: JSONObject, depth: int) -> JSONObject:
    properties = object_at(schema, "properties")
    required = schema.get("required")
    # A recursive schema ends where something is optional, or else here.
    names: list[str] = (required if is_list(required) and required else list(properties)) if depth else []
    return {name: _value(object_at(properties, name), name, text, definitions, depth - 1) for name in names}


def _number(text: str) -> int | float:
    found = _NUMBER.search(text)
    if found is None:
        return 1
    return float(found[0]) if "." in found[0] else int(found[0])


def _string(name: str, text: str) -> str:
    places = places_in(text)
    if places and _PLACE_NAMES.search(name):
        return places[-1]
    quoted = _QUOTED.search(text)
    return quoted[1] if quoted else text
