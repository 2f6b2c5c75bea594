"""The runner of the Agents SDK, the real one, on our session and against the local server, which refuses what the API
refuses: a call without its result, a result without its call, a call without the reasoning before it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from memexllm import AsyncHistoryManager, FIFOAlgorithm, HistoryManager, MemoryStorage, SQLiteStorage, with_history
from memexllm.algorithms import TokenWindowAlgorithm
from memexllm.integrations.openai.items_read import call_id_of, is_call, is_result
from memexllm.integrations.openai_agents import MemexSession
from memexllm.testing.server import Answer, Drop, ServerError
from tests.storage.custom import AsyncDictStorage, LiveDictStorage, PlainAsyncStorage

# Its releases need one of the openai package that is newer than the oldest we support.
agents = pytest.importorskip(
    "agents", reason="the openai-agents package does not go with this openai", exc_type=ImportError
)

from agents import (  # noqa: E402
    Agent,
    GuardrailFunctionOutput,
    OpenAIChatCompletionsModel,
    OpenAIResponsesCompactionSession,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    RunState,
    SessionSettings,
    function_tool,
    input_guardrail,
)
from agents.extensions.memory import EncryptedSession  # noqa: E402
from openai import AsyncOpenAI  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from memexllm.testing import OpenAIServer

PLACES = "Call weather in Paris and Rome"
MODELS = ["responses", "reasoning", "chat"]


@pytest.fixture(autouse=True)
def untraced() -> None:
    agents.set_tracing_disabled(True)


@pytest.fixture
async def api(openai_server: OpenAIServer) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=openai_server.base_url, api_key="local", max_retries=0) as client:
        yield client


@pytest.fixture(params=["memory", "sqlite", "sync", "async", "plain async"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    makers: dict[str, Callable[[], Any]] = {
        "memory": MemoryStorage,
        "sqlite": lambda: SQLiteStorage(tmp_path / "chat.db"),
        "sync": LiveDictStorage,
        "async": AsyncDictStorage,
        "plain async": PlainAsyncStorage,
    }
    made = makers[request.param]()
    yield made
    if isinstance(made, SQLiteStorage):
        made.close()


@function_tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


def model(api: AsyncOpenAI, kind: str = "responses") -> Any:
    if kind == "chat":
        return OpenAIChatCompletionsModel(model="gpt-4o", openai_client=api)
    return OpenAIResponsesModel(model="o3" if kind == "reasoning" else "gpt-4o", openai_client=api)


def an_agent(api: AsyncOpenAI, kind: str = "responses", **fields: Any) -> Agent:
    return Agent(
        **{"name": "Helper", "instructions": "Be kind.", "tools": [weather], "model": model(api, kind), **fields}
    )


async def run(agent: Agent, text: Any, session: Any, *, streamed: bool = False, **options: Any) -> Any:
    if not streamed:
        return await Runner.run(agent, text, session=session, **options)
    streaming = Runner.run_streamed(agent, text, session=session, **options)
    async for _ in streaming.stream_events():
        pass
    return streaming


def unmatched(items: list[Any]) -> set[str | None]:
    calls = {call_id_of(item) for item in items if is_call(item)}
    return calls ^ {call_id_of(item) for item in items if is_result(item)}


def sent(server: OpenAIServer) -> list[Any]:
    """The items or messages of the newest request."""
    body: Any = server.requests[-1].body
    return list(body["input"] if "input" in body else body["messages"])


def shown(items: list[Any]) -> list[str]:
    return [str(item.get("role") or item.get("type")) for item in items]


@pytest.mark.parametrize("streamed", [False, True], ids=["at once", "streamed"])
@pytest.mark.parametrize("kind", MODELS)
async def test_a_conversation_with_tools_goes_on_from_run_to_run(
    api: AsyncOpenAI, openai_server: OpenAIServer, storage: Any, kind: str, streamed: bool
) -> None:
    session = MemexSession("t", storage)
    asked = ["My name is Ada.", PLACES, "What is my name?", "Call weather in Oslo and Bern", "How many messages?"]
    answers = [(await run(an_agent(api, kind), text, session, streamed=streamed)).final_output for text in asked]
    assert answers[1] == "The result of weather is: sunny in Paris\nThe result of weather is: sunny in Rome"
    assert answers[2] == "Your name is Ada."
    assert unmatched(await session.get_items()) == set()
    assert [request.status for request in openai_server.requests] == [200] * 7
    # A message of the thread is what was said in one go: two calls are one message.
    messages = await session.history.get_messages("t")
    roles = ["user", "assistant", "user", "assistant", "tool", "tool", "assistant", "user", "assistant"]
    assert [message.role for message in messages][:9] == roles


@pytest.mark.parametrize("kind", MODELS)
async def test_the_model_gets_every_item_back_as_it_was(
    api: AsyncOpenAI, openai_server: OpenAIServer, storage: Any, kind: str
) -> None:
    ours, theirs = MemexSession("t", storage), agents.SQLiteSession("t")
    for text in ("My name is Ada.", PLACES):
        result = await run(an_agent(api, kind), text, ours)
        await theirs.add_items([*result.to_input_list()][len(await theirs.get_items()) :])
    await run(an_agent(api, kind), "What is my name?", theirs)
    asked = sent(openai_server)
    await run(an_agent(api, kind), "What is my name?", ours)
    assert sent(openai_server) == asked
    theirs.close()


@pytest.mark.parametrize("algorithm", [FIFOAlgorithm(max_messages=4), TokenWindowAlgorithm(max_tokens=150)], ids=repr)
@pytest.mark.parametrize("kind", MODELS)
async def test_a_window_never_splits_a_call_from_its_result(
    api: AsyncOpenAI, openai_server: OpenAIServer, storage: Any, kind: str, algorithm: Any
) -> None:
    session = MemexSession("t", storage, algorithm=algorithm)
    for turn in range(6):
        await run(an_agent(api, kind), f"Hello number {turn}", session)
        await run(an_agent(api, kind), PLACES, session)
        window = await session.get_items()
        assert unmatched(window) == set()
        assert len(window) < 16
    assert {request.status for request in openai_server.requests} == {200}
    assert len(await MemexSession("t", storage).get_items()) > 36


@pytest.mark.parametrize("limit", range(1, 9))
@pytest.mark.parametrize("kind", MODELS)
async def test_no_limit_splits_a_call_from_its_result(
    api: AsyncOpenAI, openai_server: OpenAIServer, kind: str, limit: int
) -> None:
    session = MemexSession("t", "memory:", session_settings=SessionSettings(limit=limit))
    for text in ("Hello", PLACES, PLACES, "Hello"):
        await run(an_agent(api, kind), text, session)
        assert len(await session.get_items()) <= limit
    await run(an_agent(api, kind), "Hello", session, run_config=RunConfig(session_settings=SessionSettings(limit=6)))
    both = RunConfig(
        session_settings=SessionSettings(limit=limit), session_input_callback=lambda history, new: [*history, *new]
    )
    await run(an_agent(api, kind), PLACES, session, run_config=both)
    assert {request.status for request in openai_server.requests} == {200}


@pytest.mark.parametrize("streamed", [False, True], ids=["at once", "streamed"])
@pytest.mark.parametrize("kind", MODELS)
async def test_a_handoff_is_part_of_the_conversation(
    api: AsyncOpenAI, openai_server: OpenAIServer, storage: Any, kind: str, streamed: bool
) -> None:
    expert = an_agent(api, kind, name="Billing", handoff_description="Knows invoices", tools=[])
    desk = an_agent(api, kind, name="Desk", tools=[], handoffs=[expert])
    session = MemexSession("t", storage, algorithm=FIFOAlgorithm(max_messages=6))
    await run(desk, "My name is Ada.", session, streamed=streamed)
    result = await run(desk, "Please transfer to billing", session, streamed=streamed)
    assert result.last_agent.name == "Billing"
    assert (await run(result.last_agent, "What is my name?", session, streamed=streamed)).final_output == (
        "Your name is Ada."
    )
    assert unmatched(await session.get_items()) == set()
    assert {request.status for request in openai_server.requests} == {200}


@pytest.mark.parametrize("approve", [True, False], ids=["approved", "rejected"])
@pytest.mark.parametrize("streamed", [False, True], ids=["at once", "streamed"])
@pytest.mark.parametrize("kind", MODELS)
async def test_a_run_that_waited_for_approval_goes_on_in_another_session_object(
    api: AsyncOpenAI, openai_server: OpenAIServer, storage: Any, kind: str, streamed: bool, approve: bool
) -> None:
    @function_tool(needs_approval=True)
    def refund(city: str) -> str:
        """Give the money back."""
        return f"paid in {city}"

    agent = an_agent(api, kind, tools=[refund])
    first = await run(agent, "Refund in Paris and Rome", MemexSession("t", storage), streamed=streamed)
    assert len(first.interruptions) == 2
    state = await RunState.from_json(agent, first.to_state().to_json())
    for interruption in state.get_interruptions():
        if approve:
            state.approve(interruption)
        else:
            state.reject(interruption)
    session = MemexSession("t", storage)
    second = await run(agent, state, session, streamed=streamed)
    assert ("paid in Rome" in second.final_output) == approve
    items: list[Any] = list(await session.get_items())
    assert unmatched(items) == set()
    assert len([item for item in items if is_call(item)]) == 2
    await run(agent, "Hello", MemexSession("t", storage, algorithm=FIFOAlgorithm(max_messages=4)))
    assert {request.status for request in openai_server.requests} == {200}


@pytest.mark.parametrize("kind", MODELS)
async def test_a_call_that_was_never_approved_does_not_hinder_the_next_run(
    api: AsyncOpenAI, openai_server: OpenAIServer, storage: Any, kind: str
) -> None:
    @function_tool(needs_approval=True)
    def refund(city: str) -> str:
        """Give the money back."""
        return f"paid in {city}"

    for algorithm in (None, FIFOAlgorithm(max_messages=6), TokenWindowAlgorithm(max_tokens=60)):
        session = MemexSession("t", storage, algorithm=algorithm)
        await run(an_agent(api, kind, tools=[refund]), "Refund in Paris and Rome", session)
        assert (await run(an_agent(api, kind), "Hello there", session)).final_output == "You said: Hello there"
        await session.clear_session()
    assert {request.status for request in openai_server.requests} == {200}


async def test_results_that_the_application_brings_itself_find_their_calls(
    api: AsyncOpenAI, openai_server: OpenAIServer, storage: Any
) -> None:
    @function_tool(needs_approval=True)
    def refund(city: str) -> str:
        """Give the money back."""
        return f"paid in {city}"

    session = MemexSession("t", storage, algorithm=FIFOAlgorithm(max_messages=6))
    agent = an_agent(api, tools=[refund])
    await run(agent, "Refund in Paris", session)
    call: Any = (await session.get_items())[-1]
    brought = [{"type": "function_call_output", "call_id": call["call_id"], "output": "paid by hand"}]
    assert (await run(agent, brought, session)).final_output == "The result of refund is: paid by hand"
    assert unmatched(await session.get_items()) == set()


@pytest.mark.parametrize("streamed", [False, True], ids=["at once", "streamed"])
@pytest.mark.parametrize("outcome", [ServerError(500), Drop(), Drop(after_chunks=4)], ids=repr)
@pytest.mark.parametrize("kind", MODELS)
async def test_a_run_that_broke_off_amid_its_tools_is_gone_on_from(
    api: AsyncOpenAI, openai_server: OpenAIServer, storage: Any, kind: str, outcome: Any, streamed: bool
) -> None:
    session = MemexSession("t", storage)
    call = {
        "content": None,
        "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}],
    }
    openai_server.plan(Answer(call), outcome)
    with pytest.raises(Exception, match=r".*"):
        await run(an_agent(api, kind), "My name is Ada.", session, streamed=streamed)
    assert unmatched(await session.get_items()) == set()
    assert (await run(an_agent(api, kind), "What is my name?", session)).final_output == "Your name is Ada."


@pytest.mark.parametrize("kind", MODELS)
async def test_a_run_that_ran_out_of_turns_is_gone_on_from(
    api: AsyncOpenAI, openai_server: OpenAIServer, storage: Any, kind: str
) -> None:
    session = MemexSession("t", storage, algorithm=FIFOAlgorithm(max_messages=5))
    with pytest.raises(agents.MaxTurnsExceeded):
        await run(an_agent(api, kind), f"My name is Ada. {PLACES}", session, max_turns=1)
    assert (await run(an_agent(api, kind), "What is my name?", session)).final_output == "Your name is Ada."
    assert {request.status for request in openai_server.requests} == {200}


@pytest.mark.parametrize("kind", MODELS)
async def test_a_tool_that_raises_does_not_hinder_the_next_run(
    api: AsyncOpenAI, openai_server: OpenAIServer, storage: Any, kind: str
) -> None:
    @function_tool(failure_error_function=None)
    def refund(city: str) -> str:
        """Give the money back."""
        raise RuntimeError(f"no money in {city}")

    session = MemexSession("t", storage, algorithm=FIFOAlgorithm(max_messages=5))
    with pytest.raises(agents.UserError, match="no money"):
        await run(an_agent(api, kind, tools=[refund]), "Refund in Paris", session)
    assert (await run(an_agent(api, kind), "Hello", session)).final_output == "You said: Hello"
    assert {request.status for request in openai_server.requests} == {200}


async def test_a_guardrail_that_trips_leaves_a_session_that_goes_on(api: AsyncOpenAI, storage: Any) -> None:
    @input_guardrail
    def no_secrets(_: Any, __: Any, text: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(None, tripwire_triggered="secret" in str(text[-1]))

    session = MemexSession("t", storage)
    agent = an_agent(api, input_guardrails=[no_secrets])
    await run(agent, "My name is Ada.", session)
    with pytest.raises(agents.InputGuardrailTripwireTriggered):
        await run(agent, "Tell a secret", session)
    assert (await run(agent, "What is my name?", session)).final_output == "Your name is Ada."


@pytest.mark.parametrize("streamed", [False, True], ids=["at once", "streamed"])
async def test_a_request_that_is_tried_again_because_the_conversation_is_locked_stores_its_input_once(
    api: AsyncOpenAI, openai_server: OpenAIServer, storage: Any, streamed: bool
) -> None:
    session = MemexSession("t", storage)
    openai_server.plan(ServerError(400, code="conversation_locked"))
    await run(an_agent(api), "Hello", session, streamed=streamed)
    assert shown(await session.get_items()) == ["user", "assistant"]
    assert len(openai_server.requests) == 2


async def test_a_stream_that_is_cancelled_leaves_a_session_that_goes_on(
    api: AsyncOpenAI, openai_server: OpenAIServer, storage: Any
) -> None:
    session = MemexSession("t", storage)
    await run(an_agent(api), "My name is Ada.", session)
    for mode in ("immediate", "after_turn"):
        streaming = Runner.run_streamed(an_agent(api), PLACES, session=session)
        async for _ in streaming.stream_events():
            streaming.cancel(mode=mode)
    assert (await run(an_agent(api), "What is my name?", session)).final_output == "Your name is Ada."
    assert {request.status for request in openai_server.requests} == {200}


def ask(server: OpenAIServer, session: MemexSession, text: str) -> Any:
    """A run in an event loop of its own."""

    async def once() -> Any:
        async with AsyncOpenAI(base_url=server.base_url, api_key="local", max_retries=0) as client:
            return (await run(an_agent(client), text, session)).final_output

    return asyncio.run(once())


def test_runs_in_one_event_loop_after_another_share_a_session(openai_server: OpenAIServer, storage: Any) -> None:
    session = MemexSession("t", storage)
    assert ask(openai_server, session, "My name is Ada.") == "You said: My name is Ada."
    ask(openai_server, session, PLACES)
    assert ask(openai_server, session, "What is my name?") == "Your name is Ada."


@pytest.mark.parametrize("make_storage", [MemoryStorage, LiveDictStorage, lambda: SQLiteStorage(":memory:")])
def test_runs_in_several_threads_share_a_session(openai_server: OpenAIServer, make_storage: Callable[[], Any]) -> None:
    session = MemexSession("t", make_storage())
    with ThreadPoolExecutor(4) as threads:
        answers = [threads.submit(ask, openai_server, session, f"Hello number {number}") for number in range(4)]
    assert [answer.result() for answer in answers] == [f"You said: Hello number {number}" for number in range(4)]
    assert sorted(shown(asyncio.run(session.get_items()))) == ["assistant"] * 4 + ["user"] * 4


# run_sync() ends the loop's asynchronous generators after each run, and the client then starts others in it.
@pytest.mark.filterwarnings("ignore:asynchronous generator:ResourceWarning")
def test_run_sync_goes_on_from_run_sync(openai_server: OpenAIServer, storage: Any) -> None:
    client = AsyncOpenAI(base_url=openai_server.base_url, api_key="local", max_retries=0)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        session = MemexSession("t", storage)
        Runner.run_sync(an_agent(client), "My name is Ada.", session=session)
        Runner.run_sync(an_agent(client), PLACES, session=session)
        result = Runner.run_sync(an_agent(client), "What is my name?", session=session)
        assert result.final_output == "Your name is Ada."
        loop.run_until_complete(client.close())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def test_a_conversation_goes_on_after_a_restart(api: AsyncOpenAI, tmp_path: Path) -> None:
    async with MemexSession("t", tmp_path / "chat.db") as session:
        await run(an_agent(api), "My name is Ada.", session)
    async with MemexSession("t", tmp_path / "chat.db") as session:
        assert (await run(an_agent(api), "What is my name?", session)).final_output == "Your name is Ada."


@pytest.mark.parametrize("kind", MODELS)
async def test_an_agent_and_a_wrapped_client_talk_in_one_thread(
    api: AsyncOpenAI, openai_server: OpenAIServer, storage: Any, kind: str
) -> None:
    client: Any = with_history(api, storage=storage)
    messages = [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "My name is Ada."}]
    await client.chat.completions.create(model="gpt-4o", messages=messages, thread_id="t")
    session = MemexSession("t", AsyncHistoryManager(storage), algorithm=None)
    assert (await run(an_agent(api, kind), "What is my name?", session)).final_output == "Your name is Ada."
    await run(an_agent(api, kind), f"My city is Bonn. {PLACES}", session)
    question: Any = [{"role": "user", "content": "What is my city?"}]
    answer = await client.chat.completions.create(model="gpt-4o", messages=question, thread_id="t")
    assert answer.choices[0].message.content == "Your city is Bonn."
    again = await client.responses.create(model="gpt-4o", input="What is my name?", thread_id="t")
    assert again.output_text == "Your name is Ada."
    assert {request.status for request in openai_server.requests} == {200}


async def test_the_sdks_own_wrappers_take_the_session(api: AsyncOpenAI, storage: Any) -> None:
    never = OpenAIResponsesCompactionSession(
        session_id="t",
        underlying_session=MemexSession("t", storage),
        client=api,
        should_trigger_compaction=lambda _: False,
    )
    underlying: Any = MemexSession(
        "u", storage
    )  # it is typed for the SDK's own base class, and asks for its methods only
    sealed = EncryptedSession("u", underlying_session=underlying, encryption_key="a secret key")
    session: Any
    for session in (never, sealed):
        await run(an_agent(api), "My name is Ada.", session)
        await run(an_agent(api), PLACES, session)
        assert (await run(an_agent(api), "What is my name?", session)).final_output == "Your name is Ada."
    assert "Ada" not in str([message.wire for message in await MemexSession("u", storage).history.get_messages("u")])


async def test_it_is_a_session_of_the_sdk() -> None:
    assert isinstance(MemexSession("t", "memory:"), agents.memory.Session)
    assert isinstance(MemexSession("t", HistoryManager("memory:")), agents.Session)
