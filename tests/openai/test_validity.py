"""What is sent is valid whatever the thread holds; what is stored stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from memexllm import BaseAlgorithm, FIFOAlgorithm, MemoryStorage, Message
from memexllm.core.errors import ValidationError, WindowError
from memexllm.core.exchanges import PLACEHOLDER
from memexllm.testing.server import Gate, Hold, OpenAIServer
from tests.openai.talking import TOOLS, Talk, assistant, call, calling, said, sent, system, tool, turns, user

if TYPE_CHECKING:
    from collections.abc import Callable

CUSTOM: dict[str, Any] = {"id": "c1", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}


def roles(server: OpenAIServer) -> list[str]:
    return [message["role"] for message in sent(server)]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ([user("a"), calling("c1"), user("b")], ["user", "user"]),
        ([user("a"), calling("c1", "c2"), tool("c1")], ["user", "assistant", "tool"]),
        ([user("a"), calling("c1", "c2"), tool("c2"), assistant("done")], ["user", "assistant", "tool", "assistant"]),
        ([user("a"), tool("c9"), assistant("b")], ["user", "assistant"]),
        (
            [user("a"), calling("c1"), user("b"), tool("c1"), assistant("c")],
            ["user", "assistant", "tool", "user", "assistant"],
        ),
        (
            [user("a"), calling("c1"), tool("c1"), tool("c1"), assistant("b")],
            ["user", "assistant", "tool", "assistant"],
        ),
        ([user("a"), assistant(None)], ["user"]),
        ([user("a"), assistant([])], ["user"]),
        ([user("a"), assistant(None, refusal="no")], ["user", "assistant"]),
        ([user("a"), assistant("", tool_calls=[call("c1")])], ["user", "assistant"]),
        ([user("a"), calling("c1"), calling("c1"), tool("c1")], ["user", "assistant", "tool"]),
        (
            [user("a"), assistant(None, tool_calls=[CUSTOM]), tool("c1"), assistant("b")],
            ["user", "assistant", "tool", "assistant"],
        ),
        ([user("a"), assistant(None, tool_calls=[CUSTOM])], ["user"]),
        ([tool("c1"), user("a")], ["user"]),
    ],
)
def test_any_thread_can_be_continued(
    server: OpenAIServer, talk: Talk, stored: list[dict[str, Any]], expected: list[str]
) -> None:
    talk.seed(*stored)
    talk.say(user("next"))
    assert roles(server) == [*expected, "user"]
    assert talk.stored()[: len(stored)] == stored


def test_repairs_are_noted_with_the_answer(talk: Talk) -> None:
    talk.seed(user("a"), calling("c1"))
    unanswered = talk.run("get_messages", "t")[1]
    talk.say(user("next"))
    assert talk.run("get_messages", "t")[-1].call.repairs == [unanswered.id]


def test_a_forced_tool_call_that_is_never_answered_is_no_trouble(server: OpenAIServer, talk: Talk) -> None:
    forced: dict[str, Any] = {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "look"}}}
    for text in ("one", "two", "three"):
        talk.say(user(text), **forced)
    assert said(server) == ["one", "two", "three"]
    assert [wire["role"] for wire in talk.stored()] == ["user", "assistant"] * 3


def test_two_calls_at_once_keep_their_exchanges_whole(server: OpenAIServer, client: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def say(*messages: Any) -> Any:
        return client.chat.completions.create(model="m", messages=list(messages), thread_id="t")

    server.answer({"content": None, "tool_calls": [call("c1")]})
    say(user("look"))
    with Gate() as gate, ThreadPoolExecutor() as pool:
        server.plan(Hold(gate, "the tool said 42"))
        slow = pool.submit(say, tool("c1"))
        gate.wait_until_reached()
        say(user("are you there?"))
        assert said(server) == ["look", "are you there?"]
        gate.open()
        slow.result()
    say(user("and now?"))
    assert roles(server) == ["user", "assistant", "tool", "user", "assistant", "assistant", "user"]


def test_placeholders_answer_open_calls(server: OpenAIServer, talking: Callable[..., Talk]) -> None:
    talk = talking(orphans="placeholder")
    talk.seed(user("a"), calling("c1", "c2"), tool("c2", "two"), tool("c9"))
    talk.say(user("next"))
    assert roles(server) == ["user", "assistant", "tool", "tool", "user"]
    assert said(server) == ["a", None, "two", PLACEHOLDER, "next"]


def test_orphans_can_be_refused_before_the_request(server: OpenAIServer, talking: Callable[..., Talk]) -> None:
    talk = talking(orphans="error")
    talk.seed(user("a"), calling("c1"))
    with pytest.raises(ValidationError, match="c1"):
        talk.say(user("next"))
    assert server.requests == []
    assert len(talk.stored()) == 2


@pytest.mark.parametrize("messages", [[tool("c9")], [calling("c1")], [system("Be brief."), tool("c9")]])
def test_when_nothing_is_left_to_send_no_request_is_made(
    server: OpenAIServer, talk: Talk, messages: list[dict[str, Any]]
) -> None:
    with pytest.raises(WindowError, match="results without their calls"):
        talk.say(*messages)
    assert server.requests == []
    assert talk.run("list_threads") == []


def test_a_function_call_of_old_and_its_result_go_together(server: OpenAIServer, talking: Callable[..., Talk]) -> None:
    talk = talking(algorithm=FIFOAlgorithm(max_messages=3))
    function = {"role": "function", "name": "look", "content": "42"}
    talk.seed(user("a"), assistant(None, function_call={"name": "look", "arguments": "{}"}), function, assistant("b"))
    talk.say(user("next"))
    assert roles(server) in (["assistant", "user"], ["user", "assistant", "user"])


@pytest.mark.parametrize("max_messages", range(1, 8))
def test_no_window_cuts_an_exchange(server: OpenAIServer, talking: Callable[..., Talk], max_messages: int) -> None:
    talk = talking(algorithm=FIFOAlgorithm(max_messages=max_messages))
    talk.seed(
        user("a"), calling("c1", "c2"), tool("c1"), tool("c2"), assistant("b"), user("c"), calling("c3"), tool("c3")
    )
    talk.say(user("next"))
    assert [request.status for request in server.requests] == [200]
    assert len(sent(server)) <= max_messages
    assert sent(server)[-1] == user("next")


class Careless(BaseAlgorithm):
    """The last two messages, whatever they are."""

    def get_message_window(self, messages: list[Message]) -> list[Message]:
        return messages[-2:]


def test_a_careless_algorithm_cannot_cause_a_refusal(server: OpenAIServer, talking: Callable[..., Talk]) -> None:
    talk = talking(algorithm=Careless())
    talk.seed(user("a"), calling("c1"), tool("c1"), calling("c2"), tool("c2"))
    talk.say(user("next"))
    assert sent(server)[-1] == user("next")
    assert [request.status for request in server.requests] == [200]


class Broken(BaseAlgorithm):
    def get_message_window(self, messages: list[Message]) -> list[Message]:
        raise KeyError("importance")


def test_an_algorithm_that_fails_costs_nothing(server: OpenAIServer, talking: Callable[..., Talk]) -> None:
    talk = talking(algorithm=Broken())
    with pytest.raises(WindowError, match="Broken failed"):
        talk.say(user("next"))
    assert server.requests == []


def test_an_agents_task_is_sent_however_far_back_it_lies(server: OpenAIServer, talking: Callable[..., Talk]) -> None:
    talk = talking(algorithm=FIFOAlgorithm(max_messages=4), storage=MemoryStorage())
    steps = [message for n in range(200) for message in (calling(f"c{n}"), tool(f"c{n}", str(n)))]
    talk.seed(*turns("old", "answer"), user("the task"), *steps[:-1])
    talk.say(tool("c199", "the end"))
    contents = said(server)
    assert contents[0] == "the task"
    assert contents[-1] == "the end"
    assert len(contents) <= 5


@pytest.mark.parametrize("n_choices", [1, 3])
def test_of_several_choices_the_first_is_history_and_the_others_are_kept(
    server: OpenAIServer, talk: Talk, n_choices: int
) -> None:
    talk.say(user("hi"), n=n_choices)
    kept = talk.run("get_messages", "t")[-1]
    assert kept.content == "You said: hi"
    others = [wire["content"] for wire in kept.metadata.get("alternatives", [])]
    assert others == [f"You said: hi (choice {number})" for number in range(2, n_choices + 1)]
    talk.say(user("next"))
    assert said(server) == ["hi", "You said: hi", "next"]
