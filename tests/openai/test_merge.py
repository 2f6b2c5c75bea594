"""What a caller passes against what the thread holds: only the new messages, the whole list, or a window of it."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import InternalServerError

from memexllm import FIFOAlgorithm
from memexllm.core.errors import ConfigurationError
from memexllm.core.flow import run
from memexllm.core.wire import Draft, MessageRow, row_of
from memexllm.history.context import Loaded
from memexllm.integrations.openai import RepeatedDivergenceWarning
from memexllm.integrations.openai.merge import merge
from memexllm.testing.server import ServerError
from tests.openai.storages import CountingStorage
from tests.openai.talking import Talk, assistant, call, calling, said, sent, system, tool, turns, user

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from memexllm.testing.server import OpenAIServer


def test_only_the_new_message_is_passed_and_the_history_is_sent_before_it(server: OpenAIServer, talk: Talk) -> None:
    talk.say(user("My name is Ada."))
    assert talk.say(user("What is my name?")) == "Your name is Ada."
    assert said(server) == ["My name is Ada.", "You said: My name is Ada.", "What is my name?"]
    assert talk.stored_contents() == [*said(server), "Your name is Ada."]


def test_the_whole_list_is_passed_every_time_and_nothing_is_stored_twice(server: OpenAIServer, talk: Talk) -> None:
    conversation: list[Any] = []
    for text in ("one", "two", "three"):
        conversation.append(user(text))
        conversation.append(assistant(talk.say(*conversation)))
    assert said(server) == ["one", "You said: one", "two", "You said: two", "three"]
    assert talk.stored() == conversation


@pytest.mark.parametrize("kept", [1, 2, 3, 4])
def test_a_window_of_the_list_is_passed_and_only_its_end_is_new(server: OpenAIServer, talk: Talk, kept: int) -> None:
    conversation = turns("one", "1", "two", "2")
    talk.seed(*conversation)
    talk.say(*conversation[-kept:], user("three"))
    assert said(server) == ["one", "1", "two", "2", "three"]
    assert talk.stored_contents() == [*said(server), "You said: three"]


def test_the_sdks_own_message_objects_are_recognised(server: OpenAIServer, client: Any) -> None:
    conversation: list[Any] = [user("one")]
    for text in ("two", "three"):
        answer = client.chat.completions.create(model="gpt-4o", messages=conversation, thread_id="t")
        conversation += [answer.choices[0].message, user(text)]
    client.chat.completions.create(model="gpt-4o", messages=conversation, thread_id="t")
    assert said(server) == ["one", "You said: one", "two", "You said: two", "three"]
    assert len(client.history.get_messages("t")) == 6


def test_a_generator_of_messages_is_read_once_sent_and_stored(server: OpenAIServer, talk: Talk) -> None:
    talk.say(user("one"))
    kwargs: dict[str, Any] = {"model": "gpt-4o", "thread_id": "t"}
    if talk.runner is None:
        talk.client.chat.completions.create(messages=(user(text) for text in ("two", "three")), **kwargs)
    else:
        talk.runner.run(
            talk.client.chat.completions.create(messages=(user(text) for text in ("two", "three")), **kwargs)
        )
    assert said(server) == ["one", "You said: one", "two", "three"]
    assert talk.stored_contents()[:4] == said(server)


def test_text_in_parts_equals_the_same_text_in_one_string(server: OpenAIServer, talk: Talk) -> None:
    talk.say(user("Hello there"))
    parts = [{"type": "text", "text": "Hello "}, {"type": "text", "text": "there"}]
    talk.say(user(parts), assistant("You said: Hello there"), user("and now?"))
    assert said(server) == ["Hello there", "You said: Hello there", "and now?"]


def test_the_same_word_said_again_is_a_new_message(server: OpenAIServer, talk: Talk) -> None:
    for _ in range(3):
        talk.say(user("yes"))
    assert said(server) == ["yes", "You said: yes", "yes", "You said: yes", "yes"]


@pytest.mark.parametrize("passed", ["results only", "app style", "whole list"])
def test_a_tool_loop_is_continued_however_its_messages_are_passed(
    server: OpenAIServer, talk: Talk, passed: str
) -> None:
    asked = user("Weather in Oslo and Rome?")
    server.answer({"content": None, "tool_calls": [call("c1"), call("c2")]})
    talk.say(asked)
    results = [tool("c1", "rain"), tool("c2", "sun")]
    app = [calling("c1", "c2"), *results]
    talk.say(*{"results only": results, "app style": app, "whole list": [asked, *app]}[passed])
    assert [message["role"] for message in sent(server)] == ["user", "assistant", "tool", "tool"]
    assert [wire["role"] for wire in talk.stored()] == ["user", "assistant", "tool", "tool", "assistant"]


def test_re_serialised_arguments_do_not_make_another_message(server: OpenAIServer, talk: Talk) -> None:
    server.answer({"content": None, "tool_calls": [call("c1", arguments='{"a": 1}')]})
    talk.say(user("look"))
    talk.say(assistant(None, tool_calls=[call("c1", arguments='{"a":1}')]), tool("c1"))
    assert [message["role"] for message in sent(server)] == ["user", "assistant", "tool"]
    assert sent(server)[1]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'


def test_the_list_without_its_last_answer_regenerates_it(server: OpenAIServer, talk: Talk) -> None:
    talk.say(user("one"))
    talk.say(user("two"))
    server.answer("another")
    talk.say(user("one"), assistant("You said: one"), user("two"))
    assert said(server) == ["one", "You said: one", "two"]
    assert talk.stored_contents() == ["one", "You said: one", "two", "another"]
    assert talk.superseded() == ["You said: two"]


def test_an_edited_message_supersedes_what_came_after_it(server: OpenAIServer, talk: Talk) -> None:
    talk.seed(*turns("one", "1", "two", "2"))
    talk.say(user("one"), assistant("1"), user("TWO"))
    assert said(server) == ["one", "1", "TWO"]
    assert talk.stored_contents() == ["one", "1", "TWO", "You said: TWO"]
    assert talk.superseded() == ["two", "2"]
    talk.say(user("three"))
    assert said(server) == ["one", "1", "TWO", "You said: TWO", "three"]


def test_an_edit_far_behind_the_window_is_found(server: OpenAIServer, talking: Callable[..., Talk]) -> None:
    talk = talking(algorithm=FIFOAlgorithm(max_messages=2))
    talk.seed(*turns("a", "1", "b", "2", "c", "3", "d", "4"))
    talk.say(user("a"), assistant("1"), user("B"))
    assert talk.stored_contents() == ["a", "1", "B", "You said: B"]
    assert talk.superseded() == ["b", "2", "c", "3", "d", "4"]


def test_examples_sent_with_every_call_are_named_once_with_their_remedy(talk: Talk) -> None:
    examples = turns("2+2?", "4", "3+3?", "6")
    talk.say(*examples, user("first"))
    talk.say(*examples, user("second"))
    with pytest.warns(RepeatedDivergenceWarning, match='merge="append"'):
        talk.say(*examples, user("third"))
    talk.say(*examples, user("fourth"))
    assert talk.stored_contents()[-2:] == ["fourth", "You said: fourth"]


def test_an_incomplete_last_turn_that_is_asked_again_is_superseded(server: OpenAIServer, client: Any) -> None:
    client.history.create_thread(thread_id="t")
    stream = client.chat.completions.create(
        model="gpt-4o", messages=[user("tell me a long story")], stream=True, thread_id="t"
    )
    next(stream), next(stream), next(stream)
    stream.close()
    client.chat.completions.create(model="gpt-4o", messages=[user("tell me a long story")], thread_id="t")
    assert said(server) == ["tell me a long story"]
    assert [m.content for m in client.history.get_messages("t")] == [
        "tell me a long story",
        "You said: tell me a long story",
    ]


def test_append_never_compares(server: OpenAIServer, talk: Talk) -> None:
    talk.say(user("one"))
    talk.say(user("one"), assistant("You said: one"), user("two"), merge="append")
    assert said(server) == ["one", "You said: one", "one", "You said: one", "two"]


def test_replace_makes_the_list_the_thread(server: OpenAIServer, talk: Talk) -> None:
    talk.say(system("Be brief."), user("one"))
    talk.say(user("new"), merge="replace")
    assert said(server) == ["Be brief.", "new"]
    assert talk.stored_contents()[1:] == ["new", "You said: new"]
    talk.say(user("next"))
    assert said(server) == ["Be brief.", "new", "You said: new", "next"]


def test_replace_sends_nothing_of_the_thread_it_replaces(server: OpenAIServer, talking: Callable[..., Talk]) -> None:
    talk = talking(algorithm=FIFOAlgorithm(max_messages=2))
    talk.seed(*turns("a", "1", "b", "2"))
    talk.say(assistant("Hello, I am Bot."), merge="replace")
    assert said(server) == ["Hello, I am Bot."]


def test_an_unknown_merge_is_refused_before_the_request(server: OpenAIServer, talk: Talk) -> None:
    with pytest.raises(ConfigurationError, match="auto, append, replace"):
        talk.say(user("one"), merge="guess")
    assert server.requests == []


class TestBlock:
    """The leading system and developer messages of a thread."""

    def test_it_is_remembered_and_comes_first(self, server: OpenAIServer, talk: Talk) -> None:
        talk.say(system("Be brief."), {"role": "developer", "content": "No jokes."}, user("one"))
        talk.say(user("two"))
        assert said(server) == ["Be brief.", "No jokes.", "one", "You said: one", "two"]

    def test_repeated_with_every_call_it_is_stored_once(self, server: OpenAIServer, talk: Talk) -> None:
        for text in ("one", "two", "three"):
            talk.say(system("Be brief."), user(text))
        assert said(server) == ["Be brief.", "one", "You said: one", "two", "You said: two", "three"]
        assert talk.stored_contents().count("Be brief.") == 1

    def test_a_new_one_replaces_it_and_the_old_is_superseded(self, server: OpenAIServer, talk: Talk) -> None:
        talk.say(system("Be brief."), user("one"))
        talk.say(system("Be verbose."), user("two"))
        talk.say(user("three"))
        assert said(server) == ["Be verbose.", "one", "You said: one", "two", "You said: two", "three"]
        assert talk.superseded() == ["Be brief."]

    def test_replaced_twice_only_the_last_one_is_sent(self, server: OpenAIServer, talk: Talk) -> None:
        for style in ("A", "B", "A"):
            talk.say(system(style), user(f"in {style}"))
        assert said(server) == ["A", "in A", "You said: in A", "in B", "You said: in B", "in A"]
        assert talk.superseded() == ["A", "B"]

    def test_a_whole_list_without_one_keeps_it(self, server: OpenAIServer, talk: Talk) -> None:
        talk.say(system("Be brief."), user("one"))
        talk.say(user("one"), assistant("You said: one"), user("two"))
        assert said(server) == ["Be brief.", "one", "You said: one", "two"]

    def test_in_the_middle_such_messages_are_ordinary(self, server: OpenAIServer, talk: Talk) -> None:
        conversation = [user("one"), assistant("1"), system("The user left."), user("two")]
        talk.say(*conversation)
        talk.say(*conversation, assistant("You said: two"), user("three"))
        assert said(server) == ["one", "1", "The user left.", "two", "You said: two", "three"]

    def test_an_overlap_that_begins_with_one_is_no_block(self, server: OpenAIServer, talk: Talk) -> None:
        talk.say(system("Be brief."), user("one"), assistant("1"), system("The user left."), user("two"))
        talk.say(system("The user left."), user("two"), assistant("You said: two"), user("three"))
        assert said(server) == ["Be brief.", "one", "1", "The user left.", "two", "You said: two", "three"]
        assert talk.superseded() == []

    def test_it_survives_a_regenerate_that_reaches_back_before_it(self, server: OpenAIServer, talk: Talk) -> None:
        talk.say(user("one"))
        talk.say(system("Be brief."), user("two"))
        talk.say(user("one"), assistant("You said: one"), user("TWO"))
        assert said(server) == ["Be brief.", "one", "You said: one", "TWO"]
        talk.say(user("three"))
        assert said(server) == ["Be brief.", "one", "You said: one", "TWO", "You said: TWO", "three"]

    def test_one_stored_by_the_application_is_the_block(self, server: OpenAIServer, talk: Talk) -> None:
        talk.seed(system("Be brief."), {"role": "developer", "content": "No jokes."}, *turns("one", "1"))
        talk.say(user("two"))
        assert said(server) == ["Be brief.", "No jokes.", "one", "1", "two"]
        talk.say(system("Be verbose."), user("three"))
        assert said(server) == ["Be verbose.", "one", "1", "two", "You said: two", "three"]

    def test_one_stored_by_the_application_is_sent_whatever_the_window(
        self, server: OpenAIServer, talking: Callable[..., Talk]
    ) -> None:
        talk = talking(algorithm=FIFOAlgorithm(max_messages=3))
        talk.seed(system("Be brief."), *turns("a", "1", "b", "2", "c", "3"))
        talk.say(user("d"))
        assert said(server) == ["Be brief.", "c", "3", "d"]

    def test_replaced_under_a_window_the_old_one_never_returns(
        self, server: OpenAIServer, talking: Callable[..., Talk]
    ) -> None:
        talk = talking(algorithm=FIFOAlgorithm(max_messages=20, keep=10))
        for index in range(12):
            talk.say(system(f"style {index // 4}"), user(f"q{index}"))
            blocks = [text for text in said(server) if text.startswith("style")]
            assert blocks == [f"style {index // 4}"]


def test_a_call_on_a_long_thread_reads_few_rows(server: OpenAIServer, talking: Callable[..., Talk]) -> None:
    storage = CountingStorage()
    talk = talking(storage=storage, algorithm=FIFOAlgorithm(max_messages=10))
    talk.seed(*turns(*[str(number) for number in range(1000)]))
    talk.say(user("first"))
    for messages in ([user("again")], [user("again"), assistant("You said: again"), user("more")]):
        storage.n_rows_read = 0
        talk.say(*messages)
        assert storage.n_rows_read <= 30
    assert len(said(server)) == 10


def test_messages_that_only_look_alike_do_not_warn(talk: Talk) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        talk.say(user("hi"), user("are you there?"))
        talk.say(user("hi"), user("still waiting"))
    assert talk.stored_contents()[:2] == ["hi", "are you there?"]


def test_a_whole_list_that_is_repeated_is_history_and_is_trimmed(
    server: OpenAIServer, talking: Callable[..., Talk]
) -> None:
    talk = talking(algorithm=FIFOAlgorithm(max_messages=4))
    whole = turns(*[str(number) for number in range(20)])
    talk.seed(*whole)
    talk.say(*whole, user("next"))
    assert said(server) == ["17", "18", "19", "next"]
    assert len(talk.stored()) == 22


def test_what_is_passed_now_is_sent_whole_whatever_the_window(
    server: OpenAIServer, talking: Callable[..., Talk]
) -> None:
    talk = talking(algorithm=FIFOAlgorithm(max_messages=2))
    talk.seed(*turns("old", "answer"))
    talk.say(*[user(str(number)) for number in range(5)])
    assert said(server) == list("01234")


def test_the_same_call_again_after_it_failed_is_one_turn(server: OpenAIServer, talk: Talk) -> None:
    talk.say(user("one"))
    server.plan(ServerError(500))
    with pytest.raises(InternalServerError):
        talk.say(user("two"))
    talk.say(user("two"))
    assert talk.stored_contents() == ["one", "You said: one", "two", "You said: two"]


MESSAGES = st.sampled_from([user("yes"), assistant("ok")])


@given(st.lists(MESSAGES, max_size=12), st.lists(MESSAGES, min_size=1, max_size=12))
def test_the_overlap_is_the_longest_there_is(stored: list[Any], incoming: list[Any]) -> None:
    rows: list[MessageRow] = [
        {"id": str(seq), "created_at": 0, "wire": dict(wire), "seq": seq} for seq, wire in enumerate(stored)
    ]
    longest = max(
        size for size in range(min(len(stored), len(incoming)) + 1) if stored[len(stored) - size :] == incoming[:size]
    )

    def rows_of(drafts: Sequence[Draft]) -> list[MessageRow]:
        return [row_of(draft, "new", 0) for draft in drafts]

    drafts: list[Draft] = [{"wire": wire} for wire in incoming]
    merged = run(merge(Loaded(rows=rows), drafts, "auto", rows_of))
    if longest:
        assert merged.history == rows
        assert [row["wire"] for row in merged.new] == incoming[longest:]
        assert merged.supersede_from is None
    else:
        kept = [row["wire"] for row in merged.history]
        assert kept == stored[: len(kept)]
        assert (merged.supersede_from is None) == (len(kept) == len(stored))
        if merged.supersede_from is None:
            assert [row["wire"] for row in merged.new] == incoming
        else:
            assert [*kept, *(row["wire"] for row in merged.new)] == incoming
