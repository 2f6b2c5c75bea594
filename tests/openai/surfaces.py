"""Every way of calling the SDK that carries history: the rows of the guide's table, each with a call that proves it.

`python -m tests.openai.surfaces` writes the table into the guide; `test_surfaces.py` runs the rows and compares.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI

from memexllm import with_history

Api = Literal["chat", "responses"]
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "openai.md"
BEGIN, END = "<!-- surfaces: written by tests/openai/surfaces.py -->", "<!-- end of surfaces -->"
THREAD = "thread-of-ada"
HEADER = "X-Memexllm-Thread-Id"


@dataclass(frozen=True)
class Client:
    """What a row calls: a wrapped client, the resource of the API it speaks, and what both kinds of client share."""

    client: Any
    api: Api

    @property
    def resource(self) -> Any:
        return resource_of(self.client, self.api)

    def params(self, text: str, **more: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": text}]
        named = {"messages": messages} if self.api == "chat" else {"input": messages}
        return {"model": "gpt-4o", **named, "thread_id": THREAD, **more}

    def unnamed(self, text: str, **more: Any) -> dict[str, Any]:
        """Without a thread: the client is bound to it."""
        params = self.params(text, **more)
        del params["thread_id"]
        return params


def resource_of(client: Any, api: Api) -> Any:
    return client.chat.completions if api == "chat" else client.responses


Speak = Callable[[Client, str], Coroutine[Any, Any, str]]


@dataclass(frozen=True)
class Row:
    """One line of the table: `surface` is how it is written, in Markdown.

    `speak` says a text that way and returns the answer's, or nothing when the row is about not reading it.
    `wrap` makes the wrapped client out of a plain one, when the row is about that.
    """

    group: str
    surface: str
    speak: Speak
    apis: tuple[Api, ...] = ("chat", "responses")
    wrap: Callable[..., Any] = with_history
    plain: Callable[..., Any] | None = None
    """Makes the client to wrap out of the server, asked for an asynchronous one or not; None: the SDK's usual."""


# What the SDK returns is a value, or awaited for one: the rows are written once for both.


async def got(value: Any) -> Any:
    return await value if hasattr(value, "__await__") else value


def in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def each(values: Any) -> AsyncIterator[Any]:
    if hasattr(values, "__aiter__") and (in_event_loop() or not hasattr(values, "__iter__")):
        async for value in values:
            yield value
    else:
        for value in values:
            yield value


@asynccontextmanager
async def entered(manager: Any) -> AsyncIterator[Any]:
    if hasattr(manager, "__aenter__"):
        async with manager as value:
            yield value
    else:
        with manager as value:
            yield value


def text_of(answer: Any) -> str:
    """Of what either API gives, as the SDK's model or as JSON."""
    if isinstance(answer, dict):
        if "choices" in answer:
            return str(answer["choices"][0]["message"]["content"])
        return "".join(part["text"] for item in answer["output"] for part in item["content"])
    if hasattr(answer, "choices"):
        return str(answer.choices[0].message.content)
    return str(answer.output_text)


def piece_of(event: Any) -> str:
    """The text in one piece of a stream."""
    if isinstance(event, dict):
        if "choices" in event:
            return "".join(choice["delta"].get("content") or "" for choice in event["choices"])
        return str(event["delta"]) if event["type"] == "response.output_text.delta" else ""
    if hasattr(event, "choices"):
        return "".join(choice.delta.content or "" for choice in event.choices)
    return str(event.delta) if event.type == "response.output_text.delta" else ""


async def joined(stream: Any) -> str:
    return "".join([piece_of(event) async for event in each(stream)])


def text_of_lines(lines: Iterable[str]) -> str:
    """The text in the lines of an event stream."""
    found = (line.removeprefix("data: ") for line in lines if line.startswith("data: {"))
    return "".join(piece_of(json.loads(line)) for line in found)


# ---- the calls


async def create(on: Client, text: str) -> str:
    return text_of(await got(on.resource.create(**on.params(text))))


async def create_streamed(on: Client, text: str) -> str:
    return await joined(await got(on.resource.create(**on.params(text, stream=True))))


async def parse(on: Client, text: str) -> str:
    return text_of(await got(on.resource.parse(**on.params(text))))


async def stream(on: Client, text: str) -> str:
    async with entered(on.resource.stream(**on.params(text))) as events:
        final = events.get_final_completion if on.api == "chat" else events.get_final_response
        return text_of(await got(final()))


async def beta_create(on: Client, text: str) -> str:
    return text_of(await got(on.client.beta.chat.completions.create(**on.params(text))))


async def beta_parse(on: Client, text: str) -> str:
    return text_of(await got(on.client.beta.chat.completions.parse(**on.params(text))))


async def beta_stream(on: Client, text: str) -> str:
    async with entered(on.client.beta.chat.completions.stream(**on.params(text))) as events:
        return text_of(await got(events.get_final_completion()))


# ---- the bytes of an answer


async def raw_create(on: Client, text: str) -> str:
    response = await got(on.resource.with_raw_response.create(**on.params(text)))
    return text_of(response.parse())


async def raw_unparsed(on: Client, text: str) -> str:
    response = await got(on.resource.with_raw_response.create(**on.params(text)))
    return text_of(json.loads(response.text))


async def raw_streamed(on: Client, text: str) -> str:
    response = await got(on.resource.with_raw_response.create(**on.params(text, stream=True)))
    return await joined(response.parse())


async def raw_parse(on: Client, text: str) -> str:
    response = await got(on.resource.with_raw_response.parse(**on.params(text)))
    return text_of(response.parse())


async def raw_by_chat(on: Client, text: str) -> str:
    response = await got(on.client.chat.with_raw_response.completions.create(**on.params(text)))
    return text_of(response.parse())


async def raw_by_client(on: Client, text: str) -> str:
    response = await got(resource_of(on.client.with_raw_response, on.api).create(**on.params(text)))
    return text_of(response.parse())


async def lazy_create(on: Client, text: str) -> str:
    async with entered(on.resource.with_streaming_response.create(**on.params(text))) as response:
        return text_of(await got(response.parse()))


async def lazy_json(on: Client, text: str) -> str:
    async with entered(on.resource.with_streaming_response.create(**on.params(text))) as response:
        return text_of(await got(response.json()))


async def lazy_bytes(on: Client, text: str) -> str:
    async with entered(on.resource.with_streaming_response.create(**on.params(text))) as response:
        return text_of(json.loads(b"".join([part async for part in each(response.iter_bytes())])))


async def lazy_unread(on: Client, text: str) -> str:
    async with entered(on.resource.with_streaming_response.create(**on.params(text))) as response:
        assert response.status_code == 200
    return ""


async def lazy_streamed(on: Client, text: str) -> str:
    params = on.params(text, stream=True)
    async with entered(on.resource.with_streaming_response.create(**params)) as response:
        return await joined(await got(response.parse()))


async def lazy_lines(on: Client, text: str) -> str:
    params = on.params(text, stream=True)
    async with entered(on.resource.with_streaming_response.create(**params)) as response:
        return text_of_lines([line async for line in each(response.iter_lines())])


async def lazy_parse(on: Client, text: str) -> str:
    async with entered(on.resource.with_streaming_response.parse(**on.params(text))) as response:
        return text_of(await got(response.parse()))


async def lazy_by_client(on: Client, text: str) -> str:
    create = resource_of(on.client.with_streaming_response, on.api).create
    async with entered(create(**on.params(text))) as response:
        return text_of(await got(response.parse()))


# ---- the thread


async def header(on: Client, text: str) -> str:
    return text_of(await got(on.resource.create(**on.unnamed(text, extra_headers={HEADER: THREAD}))))


async def header_of_stream(on: Client, text: str) -> str:
    async with entered(on.resource.stream(**on.unnamed(text, extra_headers={HEADER: THREAD}))) as events:
        return text_of(await got((events.get_final_completion if on.api == "chat" else events.get_final_response)()))


async def header_of_raw(on: Client, text: str) -> str:
    params = on.unnamed(text, extra_headers={HEADER: THREAD})
    return text_of((await got(on.resource.with_raw_response.create(**params))).parse())


async def unnamed(on: Client, text: str) -> str:
    return text_of(await got(on.resource.create(**on.unnamed(text))))


async def with_thread(on: Client, text: str) -> str:
    return await unnamed(Client(on.client.with_thread(THREAD), on.api), text)


async def for_user(on: Client, text: str) -> str:
    return await unnamed(Client(on.client.for_user("ada").with_thread(THREAD), on.api), text)


async def in_context(on: Client, text: str) -> str:
    with on.client.history.thread(THREAD):
        return await unnamed(on, text)


async def header_of_copy(on: Client, text: str) -> str:
    return await unnamed(Client(on.client.with_options(default_headers={HEADER: THREAD}), on.api), text)


# ---- the client


async def with_options(on: Client, text: str) -> str:
    return await create(Client(on.client.with_options(timeout=30), on.api), text)


async def copy(on: Client, text: str) -> str:
    return await create(Client(on.client.copy(), on.api), text)


def azure(server: Any, asynchronous: bool) -> Any:
    kind = AsyncAzureOpenAI if asynchronous else AzureOpenAI
    return kind(azure_endpoint=server.origin, api_key="local", api_version="2025-03-01-preview", max_retries=0)


class Subclass(OpenAI):
    pass


class AsyncSubclass(AsyncOpenAI):
    pass


def subclass(server: Any, asynchronous: bool) -> Any:
    kind = AsyncSubclass if asynchronous else Subclass
    return kind(base_url=server.base_url, api_key="local", max_retries=0)


def default_headers(server: Any, asynchronous: bool) -> Any:
    kind = AsyncOpenAI if asynchronous else OpenAI
    return kind(base_url=server.base_url, api_key="local", max_retries=0, default_headers={HEADER: THREAD})


def wrapped_for_thread(client: Any, **options: Any) -> Any:
    return with_history(client, thread_id=THREAD, **options)


def decorated(client: Any, **options: Any) -> Any:
    def make() -> Any:
        return client

    return with_history(**options)(make)()


CALLS, BODIES, THREADS, CLIENTS = "calls", "answers as bytes", "which thread", "which client"
CHAT: tuple[Api, ...] = ("chat",)
ROWS = (
    Row(CALLS, "`create(…)`", create),
    Row(CALLS, "`create(…, stream=True)`", create_streamed),
    Row(CALLS, "`parse(…)`", parse),
    Row(CALLS, "`stream(…)`", stream),
    Row(CALLS, "`client.beta.chat.completions.create(…)`", beta_create, CHAT),
    Row(CALLS, "`client.beta.chat.completions.parse(…)`", beta_parse, CHAT),
    Row(CALLS, "`client.beta.chat.completions.stream(…)`", beta_stream, CHAT),
    Row(BODIES, "`with_raw_response.create(…)`", raw_create),
    Row(BODIES, "`with_raw_response.create(…)`, never parsed", raw_unparsed),
    Row(BODIES, "`with_raw_response.create(…, stream=True)`", raw_streamed),
    Row(BODIES, "`with_raw_response.parse(…)`", raw_parse),
    Row(BODIES, "`client.chat.with_raw_response.completions.create(…)`", raw_by_chat, CHAT),
    Row(BODIES, "`client.with_raw_response.….create(…)`", raw_by_client),
    Row(BODIES, "`with_streaming_response.create(…)`", lazy_create),
    Row(BODIES, "`with_streaming_response.create(…)`, read by `json()`", lazy_json),
    Row(BODIES, "`with_streaming_response.create(…)`, read by `iter_bytes()`", lazy_bytes),
    Row(BODIES, "`with_streaming_response.create(…)`, never read", lazy_unread),
    Row(BODIES, "`with_streaming_response.create(…, stream=True)`", lazy_streamed),
    Row(BODIES, "`with_streaming_response.create(…, stream=True)`, read by `iter_lines()`", lazy_lines),
    Row(BODIES, "`with_streaming_response.parse(…)`", lazy_parse, CHAT),
    Row(BODIES, "`client.with_streaming_response.….create(…)`", lazy_by_client),
    Row(THREADS, "`create(…, extra_headers={'X-Memexllm-Thread-Id': …})`", header),
    Row(THREADS, "`stream(…, extra_headers={'X-Memexllm-Thread-Id': …})`", header_of_stream),
    Row(THREADS, "`with_raw_response.create(…, extra_headers={'X-Memexllm-Thread-Id': …})`", header_of_raw),
    Row(THREADS, "`client.with_thread(…)`", with_thread),
    Row(THREADS, "`client.for_user(…).with_thread(…)`", for_user),
    Row(THREADS, "`with client.history.thread(…):`", in_context),
    Row(THREADS, "`OpenAI(default_headers={'X-Memexllm-Thread-Id': …})`", unnamed, plain=default_headers),
    Row(THREADS, "`client.with_options(default_headers={'X-Memexllm-Thread-Id': …})`", header_of_copy),
    Row(THREADS, "`with_history(…, thread_id=…)`", unnamed, wrap=wrapped_for_thread),
    Row(CLIENTS, "`client.with_options(…)`", with_options),
    Row(CLIENTS, "`client.copy()`", copy),
    Row(CLIENTS, "`AzureOpenAI(…)`", create, plain=azure),
    Row(CLIENTS, "`AzureOpenAI(…)`, streamed", create_streamed, plain=azure),
    Row(CLIENTS, "a subclass of `OpenAI`", create, plain=subclass),
    Row(CLIENTS, "a function decorated with `with_history(…)`", create, wrap=decorated),
)


def table() -> str:
    """The guide's table, in Markdown."""
    columns: tuple[tuple[str, Api], ...] = (("chat.completions", "chat"), ("responses", "responses"))
    lines = [
        "| surface | " + " | ".join(f"`{name}` | async" for name, _ in columns) + " |",
        "|---" * (1 + 2 * len(columns)) + "|",
    ]
    group = ""
    for row in ROWS:
        if row.group != group:
            group = row.group
            lines.append(f"| **{group}** |" + " |" * (2 * len(columns)))
        cells = " | ".join("yes | yes" if api in row.apis else "no | no" for _, api in columns)
        lines.append(f"| {row.surface} | {cells} |")
    lines.append("| `client.post('/chat/completions', …)` | outside | outside | outside | outside |")
    return "\n".join(lines)


def with_table(page: str) -> str:
    """The page with the table as it is now."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    GUIDE.write_text(with_table(GUIDE.read_text("utf-8")), "utf-8")
