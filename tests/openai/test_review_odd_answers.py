"""Answers that are not what the API would say: they are kept, and never make their thread unusable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.openai.talking import Talk, assistant, said, user

if TYPE_CHECKING:
    from memexllm.testing.server import OpenAIServer

ODD_FIELDS: list[dict[str, Any]] = [
    {"audio": "UklGRg=="},
    {"audio": ["UklGRg=="]},
    {"tool_calls": [None]},
    {"tool_calls": {"id": "c1"}},
    {"tool_calls": "look()"},
    {"function_call": "look"},
    {"role": "model"},
]


@pytest.mark.parametrize("fields", ODD_FIELDS, ids=str)
def test_an_odd_answer_does_not_end_its_thread(server: OpenAIServer, talk: Talk, fields: dict[str, Any]) -> None:
    server.answer({"role": "assistant", "content": "odd", **fields})
    talk.say(user("one"))
    talk.say(user("two"))
    assert said(server) == ["one", "odd", "two"]


@pytest.mark.parametrize("fields", ODD_FIELDS, ids=str)
def test_an_odd_answer_is_recognised_when_the_whole_list_is_passed(
    server: OpenAIServer, talk: Talk, fields: dict[str, Any]
) -> None:
    server.answer({"role": "assistant", "content": "odd", **fields})
    talk.say(user("one"))
    talk.say(user("one"), {**assistant("odd"), **fields, "role": "assistant"}, user("two"))
    assert said(server) == ["one", "odd", "two"]


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"content": {"a": "é"}}, {"content": '{"a": "é"}'}),
        ({"content": 7}, {"content": "7"}),
        ({"content": ["a", "b"]}, {"content": '["a", "b"]'}),
        ({"name": 3}, {"name": "3"}),
        ({"refusal": {"why": 1}}, {"refusal": '{"why": 1}'}),
    ],
    ids=str,
)
def test_what_should_be_text_is_kept_as_its_json(
    server: OpenAIServer, client: Any, fields: dict[str, Any], kept: dict[str, Any]
) -> None:
    server.answer({"role": "assistant", "content": "odd", **fields})
    for question in ("one", "two"):
        client.chat.completions.create(model="m", messages=[user(question)], thread_id="t")
    answer = client.history.get_messages("t")[1].wire
    assert answer == {"role": "assistant", "content": "odd", **kept}
    assert server.last_messages[1] == answer
