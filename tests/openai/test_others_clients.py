"""Clients that are not the SDK's, or that somebody has patched: theirs is called, with the history in it."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock, MagicMock, Mock

import pytest
from openai import AsyncOpenAI, OpenAI
from openai.resources.chat.completions import AsyncCompletions, Completions
from openai.resources.responses import Responses
from openai.types.chat import ChatCompletion
from pydantic import BaseModel, ValidationError

from memexllm import HistoryManager, MemoryStorage, history_of, with_history
from memexllm.algorithms import TokenWindowAlgorithm
from memexllm.core.errors import ConfigurationError, ResourceNotFoundError
from memexllm.integrations.openai import PatchedClientWarning, ThreadNotGivenWarning
from tests.openai.storages import AsyncMemoryStorage
from tests.openai.talking import TOOLS, assistant, async_sdk_client, said, sdk_client, user

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from memexllm.testing.server import OpenAIServer

NOWHERE = "http://127.0.0.1:9/v1"
"""No server listens here: a call that is not the mock's fails."""


def completion(text: str = "hi") -> ChatCompletion:
    return ChatCompletion.model_validate(
        {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        }
    )


def say(client: Any, text: str, **params: Any) -> Any:
    return client.chat.completions.create(**{"model": "m", "messages": [user(text)], "thread_id": "t", **params})


def contents(manager: HistoryManager) -> list[Any]:
    return [message.content for message in manager.get_messages("t")]


def prompts(create: Any) -> list[list[Any]]:
    """What a mock was called with; `thread_id` never reaches it."""
    assert all("thread_id" not in called.kwargs and "merge" not in called.kwargs for called in create.call_args_list)
    return [[message["content"] for message in called.kwargs["messages"]] for called in create.call_args_list]


@pytest.mark.parametrize("make", [MagicMock, lambda: MagicMock(spec=OpenAI), Mock], ids=["plain", "spec", "mock"])
def test_a_mock_is_called_with_the_history(make: Any, manager: HistoryManager) -> None:
    mock = make()
    create = mock.chat.completions.create
    create.return_value = completion()
    client = with_history(mock, history_manager=manager)
    assert client is mock
    assert say(client, "one") is create.return_value
    say(client, "two")
    assert prompts(create) == [["one"], ["one", "hi", "two"]]
    assert contents(manager) == ["one", "hi", "two", "hi"]


def test_a_mock_that_is_wrapped_twice_stores_once(manager: HistoryManager) -> None:
    mock = MagicMock()
    mock.chat.completions.create.return_value = completion()
    client = with_history(with_history(mock, history_manager=manager), history_manager=manager)
    say(client, "one")
    assert contents(manager) == ["one", "hi"]
    with pytest.raises(ConfigurationError, match="wrap the original"):
        with_history(client, storage=MemoryStorage())


@pytest.mark.parametrize(
    "answer",
    [
        SimpleNamespace(choices=[SimpleNamespace(message=SimpleNamespace(role="assistant", content="hi"))]),
        MagicMock(choices=[MagicMock(message=MagicMock(content="hi"))]),
        {"id": "c", "choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]},
        completion(),
    ],
    ids=["namespace", "mock", "dict", "model"],
)
def test_whatever_looks_like_an_answer_is_remembered(manager: HistoryManager, answer: Any) -> None:
    create = Mock(return_value=answer)
    duck = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    client = with_history(duck, history_manager=manager)
    assert say(client, "one") is answer
    say(client, "two")
    assert prompts(create)[1] == ["one", "hi", "two"]
    assert manager.get_messages("t")[1].wire == assistant("hi")


def test_a_mocks_tool_calls_are_remembered(manager: HistoryManager) -> None:
    call = SimpleNamespace(id="c1", type="function", function=SimpleNamespace(name="look", arguments="{}"))
    message = SimpleNamespace(role="assistant", content=None, tool_calls=[call])
    create = Mock(return_value=SimpleNamespace(choices=[SimpleNamespace(message=message)]))
    duck = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    say(with_history(duck, history_manager=manager), "look")
    assert manager.get_messages("t")[1].wire == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
    }


def test_an_answer_that_is_none_at_all_loses_nothing_of_the_input(manager: HistoryManager) -> None:
    duck = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=Mock(return_value=None))))
    assert say(with_history(duck, history_manager=manager), "one") is None
    assert contents(manager) == ["one"]


def test_a_duck_takes_the_same_thread_rules(manager: HistoryManager) -> None:
    create = Mock(return_value=completion())
    duck = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    client = with_history(duck, history_manager=manager)
    with pytest.raises(ResourceNotFoundError):
        history_of(say(client, "none", thread_id=None))
    with pytest.warns(ThreadNotGivenWarning) as warned:
        client.chat.completions.create(model="m", messages=[user("new")])
    assert warned[0].filename == __file__
    with manager.thread("bound"):
        client.chat.completions.create(model="m", messages=[user("hi")])
    headers = {"X-Memexllm-Thread-Id": "header"}
    client.chat.completions.create(model="m", messages=[user("hi")], extra_headers=headers)
    assert [thread.id for thread in manager.list_threads()][1:] == ["bound", "header"]
    assert not create.call_args.kwargs.get("extra_headers")


async def test_an_async_mock_is_called_with_the_history(manager: HistoryManager) -> None:
    create = AsyncMock(return_value=completion())
    duck = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    client = with_history(duck, history_manager=manager)
    await say(client, "one")
    await say(client, "two")
    assert prompts(create) == [["one"], ["one", "hi", "two"]]
    assert contents(manager) == ["one", "hi", "two", "hi"]


async def test_an_async_mock_works_over_an_async_storage() -> None:
    storage = AsyncMemoryStorage()
    create = AsyncMock(return_value=completion())
    duck = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    client = with_history(duck, storage=storage)
    await say(client, "one")
    await say(client, "two")
    assert prompts(create)[1] == ["one", "hi", "two"]


async def test_a_spec_of_the_async_client_is_called_with_the_history(manager: HistoryManager) -> None:
    mock = MagicMock(spec=AsyncOpenAI)
    mock.chat.completions.create = AsyncMock(return_value=completion())
    create = mock.chat.completions.create
    client: Any = with_history(mock, history_manager=manager)
    await say(client, "one")
    await say(client, "two")
    assert prompts(create)[1] == ["one", "hi", "two"]


async def test_a_plain_function_that_returns_a_coroutine_is_awaited(manager: HistoryManager) -> None:
    async def answer(**params: Any) -> ChatCompletion:
        return completion(f"heard {len(params['messages'])}")

    duck = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=lambda **params: answer(**params))))
    client: Any = with_history(duck, history_manager=manager)
    await say(client, "one")
    await say(client, "two")
    assert contents(manager) == ["one", "heard 1", "two", "heard 3"]


class TestPatchedInstance:
    """A mock in the place of a real client's `create`: nothing reaches the real API."""

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_on_the_original_it_is_called_with_the_history(self, manager: HistoryManager, when: str) -> None:
        create: Any = Mock(return_value=completion())
        with OpenAI(base_url=NOWHERE, api_key="local", max_retries=0) as original:
            if when == "before":
                original.chat.completions.create = create  # type: ignore[method-assign]  # as tests do
            client = with_history(original, history_manager=manager)
            if when == "after":
                original.chat.completions.create = create  # type: ignore[method-assign]  # as tests do
            say(client, "one")
            say(client.with_thread("t"), "two")
            assert prompts(create) == [["one"], ["one", "hi", "two"]]
            assert contents(manager) == ["one", "hi", "two", "hi"]

    def test_on_the_wrapped_client_it_is_called(self, manager: HistoryManager) -> None:
        create: Any = Mock(return_value=completion())
        with OpenAI(base_url=NOWHERE, api_key="local", max_retries=0) as original:
            client: Any = with_history(original, history_manager=manager)
            client.chat.completions.create = create
            assert say(client, "one") is create.return_value

    async def test_on_an_async_original_it_is_called_with_the_history(self, manager: HistoryManager) -> None:
        create: Any = AsyncMock(return_value=completion())
        async with AsyncOpenAI(base_url=NOWHERE, api_key="local", max_retries=0) as original:
            original.chat.completions.create = create  # type: ignore[method-assign]  # as tests do
            client: Any = with_history(original, history_manager=manager)
            await say(client, "one")
            await say(client, "two")
            assert prompts(create)[1] == ["one", "hi", "two"]

    @pytest.mark.parametrize("replaced", ["chat", "completions"])
    def test_a_whole_resource_may_be_a_mock(self, manager: HistoryManager, replaced: str) -> None:
        with OpenAI(base_url=NOWHERE, api_key="local", max_retries=0) as original:
            stand_in: Any = MagicMock()
            setattr(original if replaced == "chat" else original.chat, replaced, stand_in)
            create = stand_in.completions.create if replaced == "chat" else stand_in.create
            create.return_value = completion()
            client = with_history(original, history_manager=manager)
            say(client, "one")
            say(client, "two")
            assert prompts(create)[1] == ["one", "hi", "two"]

    def test_a_mocked_stream_is_remembered(self, manager: HistoryManager) -> None:
        chunks = [
            SimpleNamespace(choices=[SimpleNamespace(index=0, delta=SimpleNamespace(content=text), finish_reason=end)])
            for text, end in (("Hel", None), ("lo", "stop"))
        ]
        create: Any = Mock(side_effect=lambda **_: iter(chunks))
        with OpenAI(base_url=NOWHERE, api_key="local", max_retries=0) as original:
            original.chat.completions.create = create  # type: ignore[method-assign]  # as tests do
            client = with_history(original, history_manager=manager)
            assert list(say(client, "one", stream=True)) == chunks
            assert contents(manager) == ["one", "Hello"]


def test_tool_calls_of_a_mocked_stream_are_remembered(manager: HistoryManager) -> None:
    def piece(end: str | None, **function: str) -> Any:
        call = SimpleNamespace(index=0, id="c1" if "name" in function else None, function=SimpleNamespace(**function))
        delta = SimpleNamespace(content=None, tool_calls=[call])
        return SimpleNamespace(choices=[SimpleNamespace(index=0, delta=delta, finish_reason=end)])

    pieces = [piece(None, name="look", arguments="{"), piece("tool_calls", arguments="}")]
    duck = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=lambda **_: iter(pieces))))
    list(say(with_history(duck, history_manager=manager), "look", stream=True))
    assert manager.get_messages("t")[1].wire["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    ]


class TestPatchedClass:
    """A tracer's function in the place of `Completions.create`."""

    def test_it_sees_the_whole_prompt(
        self, server: OpenAIServer, manager: HistoryManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[list[Any]] = []
        inner = Completions.create

        @functools.wraps(inner)
        def traced(self: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append([message["content"] for message in kwargs["messages"]])
            return inner(self, *args, **kwargs)

        monkeypatch.setattr(Completions, "create", traced)
        with sdk_client(server) as original:
            client = with_history(original, history_manager=manager)
            say(client, "one")
            list(say(client, "two", stream=True))
            say(client, "three", thread_id=None)
        assert seen == [["one"], ["one", "You said: one", "two"], ["three"]]
        assert contents(manager) == ["one", "You said: one", "two", "You said: two"]

    def test_tools_that_can_be_read_once_reach_the_server(
        self, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        inner = Completions.create

        @functools.wraps(inner)
        def traced(self: Any, *args: Any, **kwargs: Any) -> Any:
            return inner(self, *args, **kwargs)

        monkeypatch.setattr(Completions, "create", traced)
        with sdk_client(server) as original:
            client: Any = with_history(
                original, storage=MemoryStorage(), algorithm=TokenWindowAlgorithm(max_tokens=200)
            )
            for _ in range(4):
                say(client, "a long story " * 30, model="gpt-4o")
            say(client, "And now?", model="gpt-4o", tools=iter(TOOLS))
        assert [tool["function"]["name"] for tool in server.requests[-1].body["tools"]] == ["look"]

    async def test_it_sees_the_whole_prompt_async(
        self, server: OpenAIServer, manager: HistoryManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[list[Any]] = []
        inner = AsyncCompletions.create

        @functools.wraps(inner)
        async def traced(self: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append([message["content"] for message in kwargs["messages"]])
            return await inner(self, *args, **kwargs)

        monkeypatch.setattr(AsyncCompletions, "create", traced)
        async with async_sdk_client(server) as original:
            client: Any = with_history(original, history_manager=manager)
            await say(client, "one")
            async for _ in await say(client, "two", stream=True):
                pass
        assert seen == [["one"], ["one", "You said: one", "two"]]
        assert contents(manager) == ["one", "You said: one", "two", "You said: two"]


def around(method: Any, seen: list[Any]) -> Any:
    """As tracers do it: an object that says of itself that it is the SDK's function, and calls it."""

    class Around:
        __wrapped__ = method
        __globals__ = method.__globals__

        @property  # type: ignore[misc]  # as wrapt's proxies have it
        def __class__(self) -> Any:
            return type(method)

        def __call__(self, resource: Any, **params: Any) -> Any:
            seen.append([message["content"] for message in params.get("messages") or params["input"]])
            return method(resource, **params)

    return Around()


@pytest.mark.parametrize("cls", [Completions, Responses])
@pytest.mark.parametrize("name", ["create", "parse"])
def test_a_tracer_that_passes_for_the_sdks_function_sees_the_whole_prompt(
    server: OpenAIServer, manager: HistoryManager, monkeypatch: pytest.MonkeyPatch, cls: Any, name: str
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(cls, name, around(getattr(cls, name), seen))
    with sdk_client(server) as original:
        client: Any = with_history(original, history_manager=manager)
        key, resource = ("messages", client.chat.completions) if cls is Completions else ("input", client.responses)
        for text in ("one", "two"):
            getattr(resource, name)(model="gpt-4o", thread_id="t", **{key: [user(text)]})
    assert [len(prompt) for prompt in seen] == [1, 3]
    assert [message.text for message in manager.get_messages("t")] == ["one", "You said: one", "two", "You said: two"]


def test_an_answer_that_parse_refuses_is_stored_beneath_a_tracer_too(
    server: OpenAIServer, manager: HistoryManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Person(BaseModel):
        name: str

    monkeypatch.setattr(Completions, "parse", around(Completions.parse, []))
    server.answer("no JSON at all")
    with sdk_client(server) as original:
        client = with_history(original, history_manager=manager)
        with pytest.raises(ValidationError):
            client.chat.completions.parse(
                model="gpt-4o", messages=[{"role": "user", "content": "who?"}], response_format=Person, thread_id="t"
            )
    assert contents(manager) == ["who?", "no JSON at all"]


@pytest.mark.parametrize("name", ["create", "parse"])
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_client_instrumented_before_it_is_wrapped_gives_a_warning(
    server: OpenAIServer, manager: HistoryManager, name: str, api: str
) -> None:
    seen: list[Any] = []
    with sdk_client(server) as original:
        resource: Any = original.chat.completions if api == "chat" else original.responses
        inner = getattr(resource, name)

        @functools.wraps(inner)
        def traced(**params: Any) -> Any:
            seen.append([message["content"] for message in params.get("messages") or params["input"]])
            return inner(**params)

        setattr(resource, name, traced)
        with pytest.warns(PatchedClientWarning, match="Wrap with_history first, then instrument") as warned:
            client: Any = with_history(original, history_manager=manager)
        assert warned[0].filename == __file__
        ours = client.chat.completions if api == "chat" else client.responses
        for text in ("one", "two"):
            getattr(ours, name)(
                model="gpt-4o", thread_id="t", **{"messages" if api == "chat" else "input": [user(text)]}
            )
    assert [len(prompt) for prompt in seen] == [1, 3]
    assert [message.text for message in manager.get_messages("t")] == ["one", "You said: one", "two", "You said: two"]


def test_a_mock_in_the_place_of_parse_is_called_with_the_history(manager: HistoryManager) -> None:
    parse: Any = Mock(return_value=completion())
    with OpenAI(base_url=NOWHERE, api_key="local", max_retries=0) as original:
        original.chat.completions.parse = parse  # type: ignore[method-assign]  # as tests do
        client: Any = with_history(original, history_manager=manager)
        for text in ("one", "two"):
            client.chat.completions.parse(model="m", messages=[user(text)], thread_id="t")
    assert prompts(parse) == [["one"], ["one", "hi", "two"]]
    assert contents(manager) == ["one", "hi", "two", "hi"]


def test_an_object_made_of_the_answer_is_the_callers_and_the_answer_the_threads(manager: HistoryManager) -> None:
    made = SimpleNamespace(name="Ada", _raw_response=completion())
    create = Mock(return_value=made)
    duck = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    assert say(with_history(duck, history_manager=manager), "one") is made
    assert contents(manager) == ["one", "hi"]
    assert history_of(made).saved


class EitherWay:
    """A tracer's stream, which can be read both ways whatever the call was."""

    def __init__(self, *texts: str) -> None:
        self.pieces = AsyncPieces(*texts)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.pieces)

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        return aiter(self.pieces)


def test_a_stream_of_either_kind_is_read_as_the_call_was_made(manager: HistoryManager) -> None:
    duck = SimpleNamespace(
        chat=SimpleNamespace(completions=SimpleNamespace(create=lambda **_: EitherWay("Hel", "lo.")))
    )
    stream = say(with_history(duck, history_manager=manager), "one", stream=True)
    assert len(list(stream)) == 2
    assert contents(manager) == ["one", "Hello."]


@pytest.mark.parametrize("made_by", ["coroutine function", "function"])
async def test_an_async_stream_of_either_kind_is_read_as_the_call_was_made(
    manager: HistoryManager, made_by: str
) -> None:
    async def create(**_: Any) -> Any:
        return EitherWay("Hel", "lo.")

    method: Any = create if made_by == "coroutine function" else lambda **params: create(**params)
    duck = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=method)))
    stream = await say(with_history(duck, history_manager=manager), "one", stream=True)
    assert len([piece async for piece in stream]) == 2
    assert contents(manager) == ["one", "Hello."]


@pytest.mark.parametrize("inject", ["early", "late"])
def test_where_the_history_enters_can_be_decided(server: OpenAIServer, manager: HistoryManager, inject: Any) -> None:
    with sdk_client(server) as original:
        client = with_history(original, history_manager=manager, inject=inject)
        say(client, "one")
        list(say(client, "two", stream=True))
        say(client, "three")
    assert said(server) == ["one", "You said: one", "two", "You said: two", "three"]


class Pieces:
    """A stream of somebody else's: it is iterated, closed, and has attributes of its own."""

    request_id = "req-7"

    def __init__(self, *texts: str) -> None:
        self.texts = iter(texts)
        self.closed = False

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        return _piece(next(self.texts))

    def close(self) -> None:
        self.closed = True


class AsyncPieces(Pieces):
    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        return self

    async def __anext__(self) -> dict[str, Any]:
        for text in self.texts:
            return _piece(text)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed = True


def _piece(text: str) -> dict[str, Any]:
    end = "stop" if text.endswith(".") else None
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": end}]}


class TestStreams:
    @staticmethod
    def duck(create: Any) -> Any:
        return SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))

    def test_a_foreign_stream_is_listened_to(self, manager: HistoryManager) -> None:
        client = with_history(self.duck(lambda **_: Pieces("Hel", "lo.")), history_manager=manager)
        stream = say(client, "one", stream=True)
        assert stream.request_id == "req-7"
        assert [piece["choices"][0]["delta"]["content"] for piece in stream] == ["Hel", "lo."]
        assert contents(manager) == ["one", "Hello."]
        assert history_of(stream).saved

    @pytest.mark.parametrize("how", ["close", "with", "generator"])
    def test_left_early_it_keeps_what_was_said(self, manager: HistoryManager, how: str) -> None:
        pieces = Pieces("Hel", "lo.")
        result: Any = (piece for piece in pieces) if how == "generator" else pieces
        client = with_history(self.duck(lambda **_: result), history_manager=manager)
        stream = say(client, "one", stream=True)
        if how == "with":
            with stream:
                next(stream)
        else:
            next(stream)
            stream.close()
        assert pieces.closed is (how != "generator")
        assert [(m.content, m.status) for m in manager.get_messages("t")][1] == ("Hel", "incomplete")

    def test_one_that_breaks_keeps_what_was_said_and_raises_its_own_error(self, manager: HistoryManager) -> None:
        def pieces() -> Iterator[dict[str, Any]]:
            yield _piece("Hel")
            raise OSError("the line is gone")

        client = with_history(self.duck(lambda **_: pieces()), history_manager=manager)
        stream = say(client, "one", stream=True)
        next(stream)
        with pytest.raises(OSError, match="the line is gone"):
            next(stream)
        assert [(m.content, m.status) for m in manager.get_messages("t")][1] == ("Hel", "incomplete")

    async def test_an_async_one_that_breaks_keeps_what_was_said(self, manager: HistoryManager) -> None:
        async def pieces() -> AsyncIterator[dict[str, Any]]:
            yield _piece("Hel")
            raise OSError("the line is gone")

        client = with_history(self.duck(AsyncMock(side_effect=lambda **_: pieces())), history_manager=manager)
        stream = await say(client, "one", stream=True)
        await anext(stream)
        with pytest.raises(OSError, match="the line is gone"):
            await anext(stream)
        assert [(m.content, m.status) for m in manager.get_messages("t")][1] == ("Hel", "incomplete")

    async def test_a_foreign_async_stream_is_listened_to(self, manager: HistoryManager) -> None:
        pieces = AsyncPieces("Hel", "lo.", "!")
        client = with_history(self.duck(AsyncMock(return_value=pieces)), history_manager=manager)
        async with await say(client, "one", stream=True) as stream:
            async for _ in stream:
                break
        assert pieces.closed
        assert [(m.content, m.status) for m in manager.get_messages("t")][1] == ("Hel", "incomplete")

    async def test_an_async_generator_is_a_stream(self, manager: HistoryManager) -> None:
        async def create(**_: Any) -> Any:
            async def pieces() -> AsyncIterator[dict[str, Any]]:
                for text in ("Hel", "lo."):
                    yield _piece(text)

            return pieces()

        client = with_history(self.duck(create), history_manager=manager)
        assert len([piece async for piece in await say(client, "one", stream=True)]) == 2
        assert contents(manager) == ["one", "Hello."]


def test_a_mock_may_be_told_its_answer_by_attribute() -> None:
    mock = MagicMock()
    mock.chat.completions.create.return_value.choices[0].message.content = "hi"
    storage = MemoryStorage()
    client: Any = with_history(mock, storage=storage)
    client.chat.completions.create(messages=[user("x")], thread_id="t")
    assert [message.text for message in storage.read_messages("t")] == ["x", "hi"]
