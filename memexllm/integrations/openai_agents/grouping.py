"""Items of a session as messages of a thread, and back: every item comes out as it went in.

The runner hands over items in batches of its own making. Which of them are one message depends on the items alone,
never on the batches: what a model said in one go (reasoning, text, calls of tools) is one message, so that a window
cannot tear it apart; an item that nothing is known of is a message of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from memexllm.core import jsontext
from memexllm.core.errors import ValidationError
from memexllm.core.exchanges import call_ids
from memexllm.core.wire import ROLES, Draft, MessageRow, plain
from memexllm.integrations.openai.items_read import Item, call_id_of, drafts_of_items, is_result, waits_for_result
from memexllm.integrations.openai.items_write import items_of

_PLAIN_ROLES = frozenset({"user", "assistant", "system", "developer"})


def checked_items(items: Iterable[Any]) -> list[Item]:
    """Copies as plain JSON, nothing left out."""
    if isinstance(items, str | bytes | Mapping):
        raise ValidationError(f"items must be a list of items, got {type(items).__name__}")
    copied = [plain(item) for item in items]
    for item in copied:
        if not isinstance(item, dict):
            raise ValidationError(f"each item must be a dict or an item of the SDK's, got {type(item).__name__}")
    jsontext.dumps(copied, "items")
    return copied


def drafts(items: Sequence[Item], open_run: Sequence[Item] = ()) -> list[Draft]:
    """Messages in order; the first takes `open_run` over when `items` go on from it."""
    runs: list[list[Item]] = [list(open_run)] if open_run else []
    for item in items:
        if runs and continues(runs[-1], item):
            runs[-1].append(item)
        else:
            runs.append([item])
    return [_draft_of_run(run) for run in runs]


def continues(run: Sequence[Item], item: Item) -> bool:
    """Whether `item` is of the same message as the items before it."""
    if _is_opaque(item) or _is_opaque(run[0]):
        return False
    # A text ends what was said. A call after it is of the same answer when reasoning led to both: the API refuses
    # the call without it ("provided without its required 'reasoning' item").
    if _is_message(run[-1]) and (_is_message(item) or _is_reasoning(item) or not any(map(_is_reasoning, run))):
        return False
    return len(drafts_of_items([*run, item])) == 1


def open_run_of(row: MessageRow) -> list[Item]:
    """The items of a stored message that items added later may continue; those of a whole answer are closed."""
    closed = row["wire"].get("role") != "assistant" or row.get("status") or row.get("pinned") or "origin" in row
    if closed or ("items" not in row and row["wire"].keys() != {"role", "content"}):
        return []
    return items_in(row, ())


def items_in(row: MessageRow, before: Sequence[MessageRow]) -> list[Item]:
    """The items of a stored message, made of its chat form when it came without; `before` holds its call, if any.

    An answer that a client was given is replayed without reasoning: an agent may run on another model.
    """
    if "items" in row and "origin" not in row:
        return row["items"]
    if row["wire"].get("role") != "tool":
        return items_of([row], _never)
    # Which kind of result it is depends on the call.
    calls = [each for each in before if any(call.get("type") == "custom" for call in _calls(each))]
    return items_of([*calls, row], _never)[-1:]


def items_in_all(rows: Sequence[MessageRow]) -> list[list[Item]]:
    return [items_in(row, rows) for row in rows]


def items_to_send(row: MessageRow, rows: Sequence[MessageRow]) -> list[Item]:
    """`items_in` without the calls that a repair took out of the chat form, for their results are missing."""
    items = items_in(row, rows)
    answered = set(call_ids(row["wire"]))
    kept = [item for item in items if not waits_for_result(item, items) or call_id_of(item) in answered]
    if len(kept) < len(items):
        # Reasoning without what it led to is refused as well.
        while kept and _is_reasoning(kept[-1]):
            kept.pop()
    return kept


def newest_whole(groups: Sequence[Sequence[Item]], limit: int, *, from_the_beginning: bool) -> list[Item]:
    """The newest items of `groups` (one a message), at most `limit`, that can be sent without those before them.

    They begin with no result whose call is left out, and not amid what one reasoning led to.
    """
    items = [item for group in groups for item in group]
    starts = {0, *_starts(groups)}
    calls = [None if is_result(item) else call_id_of(item) for item in items]
    # A result that never had a call is as it was added; one whose call may lie further back is not.
    known = set(calls) if from_the_beginning else {call_id_of(item) for item in items}
    start = max(0, len(items) - limit)
    while start < len(items):
        orphan = _last_orphan(items, calls, known, start)
        if orphan is not None:
            start = orphan + 1
        elif start not in starts and _reasoned_before(items, starts, start):
            start = min((each for each in starts if each > start), default=len(items))
        else:
            break
    return items[start:]


def _last_orphan(items: Sequence[Item], calls: Sequence[str | None], known: set[str | None], start: int) -> int | None:
    seen: set[str | None] = set()
    found = None
    for index in range(start, len(items)):
        seen.add(calls[index])
        if is_result(items[index]):
            call_id = call_id_of(items[index])
            if call_id in known and call_id not in seen:
                found = index
    return found


def _reasoned_before(items: Sequence[Item], starts: set[int], start: int) -> bool:
    first = max(each for each in starts if each < start)
    return any(map(_is_reasoning, items[first:start]))


def _starts(groups: Sequence[Sequence[Item]]) -> Iterable[int]:
    start = 0
    for group in groups:
        yield start
        start += len(group)


def _draft_of_run(run: list[Item]) -> Draft:
    if _is_opaque(run[0]):
        return {"wire": {"role": "assistant", "content": ""}, "items": run}
    draft = drafts_of_items(run)[0]
    wire = draft["wire"]
    if wire.get("role") not in ROLES or not _is_content(wire.get("content")):
        # The item holds what the chat API has no words for.
        role = wire.get("role") if wire.get("role") in ROLES else "user"
        return {"wire": {**wire, "role": role, "content": ""}, "items": run}
    # Of these two fields in this order, the chat form is the item.
    if "items" not in draft and not (list(run[0]) == ["role", "content"] and run[0]["role"] in _PLAIN_ROLES):
        return {"wire": wire, "items": run}
    return draft


def _is_content(content: Any) -> bool:
    if isinstance(content, list):
        return all(isinstance(part, dict | str) for part in content)
    return content is None or isinstance(content, str)


def _is_opaque(item: Item) -> bool:
    """Whether nothing says what it is, as with the envelopes of the SDK's `EncryptedSession`."""
    return not isinstance(item.get("type"), str) and not isinstance(item.get("role"), str)


def _is_message(item: Item) -> bool:
    return item.get("type") == "message" or isinstance(item.get("role"), str)


def _is_reasoning(item: Item) -> bool:
    return item.get("type") == "reasoning"


def _calls(row: MessageRow) -> list[dict[str, Any]]:
    calls = row["wire"].get("tool_calls")
    return [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def _never(_: MessageRow) -> bool:
    return False
