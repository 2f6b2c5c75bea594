"""The commands that read: `threads`, `show`, `search`, `explain`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from memexllm.cli.escape import visible, visible_line
from memexllm.cli.output import counted, message_json, moment, pairs, thread_json, write, write_json, write_table
from memexllm.cli.places import opened_manager
from memexllm.core.flow import run
from memexllm.core.models import Message, Thread
from memexllm.core.wire import text_of
from memexllm.history.flows import found
from memexllm.history.manager import HistoryManager


def threads(place: str | None, user_id: str | None, metadata: Sequence[str], limit: int, *, as_json: bool) -> None:
    wanted = pairs(metadata)
    with opened_manager(place) as manager:
        listed = manager.list_threads(
            limit, user_id=user_id, metadata=wanted or None, order_by="-updated", preview=True
        )
    if as_json:
        for thread in listed:
            write_json({**thread_json(thread), "preview": thread.preview})
        return
    rows = [
        [
            thread.id,
            thread.title or thread.preview or "",
            thread.user_id or "",
            str(thread.message_count),
            moment(thread.updated_at),
        ]
        for thread in listed
    ]
    write_table(["thread", "title", "user", "messages", "updated"], rows, right=["messages"])


def show(place: str | None, thread_id: str, limit: int | None, *, everything: bool, as_json: bool) -> None:
    with opened_manager(place) as manager:
        thread = run(found(manager.port, thread_id)).head
        messages = manager.get_messages(thread_id, limit=limit, include_superseded=everything)
    if as_json:
        write_json({**thread_json(thread), "messages": [message_json(message) for message in messages]})
        return
    write(_headline(thread))
    for message in messages:
        write()
        write(_caption(message))
        # A text is indented, so that none of its lines can pass for a caption.
        for line in _body(message):
            write(f"  {line}" if line else "")


def _headline(thread: Thread) -> str:
    said = [f"thread {visible_line(thread.id)}"]
    if thread.title:
        said.append(visible_line(thread.title))
    if thread.user_id:
        said.append(f"user {visible_line(thread.user_id)}")
    return " · ".join([*said, counted(thread.message_count, "message"), f"updated {moment(thread.updated_at)}"])


def _caption(message: Message) -> str:
    said = [message.role]
    if message.name:
        said.append(visible_line(message.name))
    if message.tool_call_id:
        said.append(f"result of {visible_line(message.tool_call_id)}")
    if message.call is not None and message.call.model:
        said.append(visible_line(message.call.model))
    said.append(moment(message.created_at))
    if message.status != "complete":
        said.append(message.status)
    if message.superseded:
        said.append("superseded")
    return " · ".join(said)


def _body(message: Message) -> Iterator[str]:
    content = message.wire.get("content")
    if isinstance(content, list):
        for part in content:
            yield from _part_lines(part)
    elif text := text_of(message.wire):
        yield from visible(text).split("\n")
    if message.refusal:
        yield from visible(f"refused: {message.refusal}").split("\n")
    for call in message.wire.get("tool_calls") or []:
        yield _call_line(call)
    if message.function_call:
        yield _call_line({"function": message.wire["function_call"]})


def _part_lines(part: Any) -> list[str]:
    if isinstance(part, str):
        return visible(part).split("\n")
    text = part.get("text") or part.get("refusal")
    if isinstance(text, str):
        return visible(text).split("\n")
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else image
    if isinstance(url, str) and not url.startswith("data:"):
        return [f"[{visible_line(str(part.get('type')))}: {visible_line(url)}]"]
    return [f"[{visible_line(str(part.get('type')))}]"]


def _call_line(call: Any) -> str:
    called = call.get("function") or call.get("custom") or {}
    given = called.get("arguments", called.get("input", ""))
    given = given if isinstance(given, str) else json.dumps(given)
    name = f"calls {visible_line(str(called.get('name')))}({visible_line(given)})"
    return f"{name} as {visible_line(str(call['id']))}" if call.get("id") else name


def search(
    place: str | None, text: str, thread_id: str | None, user_id: str | None, limit: int, *, as_json: bool
) -> None:
    with opened_manager(place) as manager:
        hits = manager.search_messages(text, thread_id=thread_id, user_id=user_id, limit=limit)
    for number, hit in enumerate(hits):
        if as_json:
            said = message_json(hit.message)
            write_json({"thread_id": hit.thread_id, "score": hit.score, "snippet": hit.snippet, "found": said})
            continue
        write(end="\n" if number else "")
        write(f"{visible_line(hit.thread_id)} · {_caption(hit.message)}")
        write(f"  {visible_line(hit.snippet)}")


def explain(place: str | None, thread_id: str, model: str | None, max_tokens: float | None, *, as_json: bool) -> None:
    from memexllm.algorithms.token_window import TokenWindowAlgorithm
    from memexllm.integrations.openai.client_history import DEFAULT_ALGORITHM

    algorithm = DEFAULT_ALGORITHM if max_tokens is None else TokenWindowAlgorithm(max_tokens=max_tokens)
    with opened_manager(place) as manager:
        explanation = HistoryManager(manager.storage, algorithm).explain(thread_id, model=model)
    if as_json:
        write_json(explanation.to_dict())
        return
    for line in str(explanation).split("\n"):
        sys.stdout.write(f"{visible_line(line)}\n")
