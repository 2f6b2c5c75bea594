"""What the machines put in: messages with everything they can have, JSON of every type, ids and texts of all kinds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from memexllm.testing._corpus import FUNCTION_CALL, METADATA, WIRES
from tests.fuzz.model import Fields
from tests.fuzz.sides import id_of, time_of

THREAD_IDS = ("a", "A", "%_'\"\x00ü", "long " * 2_000)
SURROGATE = "\ud800"

_ODD_TEXTS = (
    "",
    " ",
    "\x00",
    "nul \x00 inside",
    "🙂👨‍👩‍👧 ‮rtl",
    "\u2028\ufeff\U0010ffff",
    "'; DROP TABLE threads; --",
    "%_*{}[]",
)
TEXTS = st.one_of(st.sampled_from(_ODD_TEXTS), st.text(max_size=8), st.integers(1, 4_000).map(lambda n: "long " * n))
_SCALARS = st.one_of(
    st.sampled_from((None, True, False, 0, 1, 1.0, -0.0, 2**53 + 1, 2**70, 1e300, 5e-324, "", "\x00")),
    st.integers(-9, 9),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS,
)
_KEYS = st.one_of(
    st.sampled_from(("", "a", "a.b[0] $.c", "$new", "memexllm", "wire", "seq", "\x00")), st.text(max_size=3)
)
JSON = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3), max_leaves=5
)
METADATAS = st.one_of(
    st.just({}), st.sampled_from(("all",)).map({"all": METADATA}.__getitem__), st.dictionaries(_KEYS, JSON, max_size=3)
)
USERS = st.sampled_from((None, "ann", "bob", "", "\x00'"))
TITLES = st.one_of(st.none(), TEXTS)
# Those of the library ("block", "cut") mean something, and "$new" names a message of a batch.
STATES = st.dictionaries(
    st.sampled_from(("x", "y", "")),
    st.one_of(st.integers(), st.booleans(), st.text(max_size=3), st.just({"z": [1]})),
    max_size=2,
)

WIRES_OF_ALL_KINDS = st.one_of(
    st.sampled_from(list(WIRES)).map(WIRES.__getitem__),
    st.builds(
        lambda role, content: {"role": role, "content": content},
        st.sampled_from(("user", "assistant", "system", "developer")),
        TEXTS,
    ),
    st.builds(
        lambda content, role, extra: {"content": content, **extra, "role": role},
        TEXTS,
        st.just("user"),
        st.dictionaries(st.text("xyz", min_size=1, max_size=2), JSON, max_size=2),
    ),
    st.builds(
        lambda n: {
            "role": "assistant",
            "content": None,
            "tool_calls": [{**FUNCTION_CALL, "id": f"c{i}"} for i in range(n)],
        },
        st.integers(1, 3),
    ),
    st.builds(
        lambda i, content: {"role": "tool", "tool_call_id": f"c{i}", "content": content}, st.integers(0, 2), TEXTS
    ),
)
_CALLS = st.sampled_from(
    (None, None, {}, {"model": "m", "server": "s", "usage": {"n": 1, "none": None}, "latency_s": 0.25, "repairs": []})
)
_MOMENTS = st.one_of(
    st.none(),
    st.sampled_from(
        (datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC))
    ),
    st.datetimes(timezones=st.just(UTC)),
)
MOMENTS = _MOMENTS.filter(lambda moment: moment is not None)

PLAIN: Fields = {
    "metadata": {},
    "status": "complete",
    "superseded": False,
    "pinned": False,
    "turn_id": None,
    "call": None,
    "tokens": None,
    "seq": None,
}
_OTHERS = st.fixed_dictionaries(
    {},
    optional={
        "metadata": METADATAS,
        "status": st.sampled_from(("complete", "incomplete", "pending")),
        "superseded": st.booleans(),
        "pinned": st.booleans(),
        "turn_id": TEXTS,
        "call": _CALLS,
        "tokens": st.one_of(
            st.none(), st.builds(lambda n, name: [n, name], st.integers(0, 2**40), st.sampled_from(("o200k_base", "")))
        ),
        "created_at": MOMENTS,
        "id": st.just("an id given twice"),
        # Whatever a message says of its place, the storage gives it another.
        "seq": st.integers(0, 30),
    },
)
DRAFTS = st.builds(
    lambda wire, others: {"wire": wire, **PLAIN, **others}, WIRES_OF_ALL_KINDS, st.one_of(st.just({}), _OTHERS)
)
"""Messages; most get their id and time from `numbered`."""
BATCHES = st.lists(DRAFTS, max_size=4)


def numbered(drafts: list[Fields], step: int) -> list[Fields]:
    """The drafts as the messages of a step; a draft that has an id keeps it."""
    return [
        {"id": id_of(step, 100 + index), "created_at": time_of(step), **draft} for index, draft in enumerate(drafts)
    ]


def _deep(levels: int) -> Any:
    value: Any = "deep"
    for _ in range(levels):
        value = [value]
    return value


NOT_JSON = {
    "NaN": float("nan"),
    "Infinity": [float("-inf")],
    "lone surrogate": SURROGATE,
    "surrogate in a key": {SURROGATE: 1},
    "an object": object(),
    "bytes": b"\xff",
    "too deep": _deep(250),
}
"""Values that no JSON text can hold, or that no reader would read again."""
