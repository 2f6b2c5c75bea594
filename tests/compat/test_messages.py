"""Nouns of 0.1: `Message`, `Thread`, the parts of content, and their dicts."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memexllm.core import Message, MessageRole, Thread, models
from memexllm.core.errors import ValidationError
from memexllm.core.models import CallInfo, ImageContent, MessageContent, TextContent, ToolCallContent
from memexllm.types import MessageType, ThreadType

CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


class TestConstructors:
    def test_arguments_come_in_the_order_of_0_1(self) -> None:
        message = Message("4", "tool", "m1", NOON, {"k": 1}, 7, None, "call_1", None, "add")
        assert (message.content, message.role, message.id, message.created_at) == ("4", "tool", "m1", NOON)
        assert (message.metadata, message.token_count, message.tool_call_id) == ({"k": 1}, 7, "call_1")
        assert (message.name, message.tool_calls, message.function_call) == ("add", None, None)
        thread = Thread("t", [message], {"k": 2}, NOON, NOON)
        assert (thread.id, thread.messages, thread.metadata) == ("t", [message], {"k": 2})
        assert thread.created_at == thread.updated_at == NOON

    def test_a_role_in_the_place_of_the_content_is_named(self) -> None:
        with pytest.raises(ValidationError, match=r"Invalid role: 'user' is given as the content"):
            Message("user", "hello")

    def test_the_names_of_0_1_are_the_classes_of_today(self) -> None:
        assert (MessageType, ThreadType) == (Message, Thread)
        assert models.MessageRole is MessageRole
        assert set(get_args(MessageRole)) == {"user", "assistant", "system", "tool", "function", "developer"}

    def test_a_token_count_can_be_given_set_and_cleared(self) -> None:
        message = Message("hi", "user", token_count=3)
        assert message.token_count == 3
        message.token_count = 4
        assert message.token_count == 4
        message.token_count = None
        assert (message.token_count, message.tokens) == (None, None)
        with pytest.raises(ValidationError):
            message.token_count = "many"  # type: ignore[assignment]  # noqa: S105 - the point of the test


class TestParts:
    def test_they_are_dicts_of_the_wire_form(self) -> None:
        assert TextContent("hi") == TextContent(text="hi") == {"type": "text", "text": "hi"}
        assert ImageContent("u") == {"type": "image_url", "image_url": {"url": "u"}}
        assert ImageContent("u", "low") == {"type": "image_url", "image_url": {"url": "u", "detail": "low"}}
        assert ToolCallContent("call_1", "function", CALL["function"]) == CALL  # type: ignore[arg-type]
        assert all(issubclass(each, MessageContent) for each in (TextContent, ImageContent, ToolCallContent))

    def test_what_a_message_holds_shows_them_again(self) -> None:
        message = Message([TextContent("look"), ImageContent("u", "low")], "user")
        text, image = message.content
        assert isinstance(text, TextContent)
        assert text.text == "look"
        assert isinstance(image, ImageContent)
        assert (image.url, image.detail) == ("u", "low")
        assert json.loads(json.dumps(message.content)) == message.wire["content"]

    def test_a_part_can_be_changed_where_it_lies(self) -> None:
        message = Message([TextContent("look"), ImageContent("u")], "user")
        message.content[0].text = "see"
        message.content[1].url = "v"
        message.content[1].detail = "high"
        assert message.wire["content"] == [TextContent("see"), ImageContent("v", "high")]

    @pytest.mark.parametrize(
        "part", [TextContent("a"), ImageContent("u", "low"), ToolCallContent("c", "function", {"name": "f"})]
    )
    def test_a_part_can_be_copied_and_pickled(self, part: MessageContent) -> None:
        for same in (copy.deepcopy(part), pickle.loads(pickle.dumps(part))):  # noqa: S301 - our own bytes
            assert same == part
            assert type(same) is type(part)

    @pytest.mark.parametrize(
        "part",
        [
            {"type": "image_url", "image_url": "https://…"},
            {"type": "image_url"},
            {"type": "text"},
            {"type": "function"},
            {"type": ["list"]},
        ],
    )
    def test_a_part_of_another_shape_is_shown_as_it_is(self, part: dict[str, Any]) -> None:
        assert Message([part], "user").content == [part]

    def test_a_tool_call_as_content_becomes_a_tool_call(self) -> None:
        call = ToolCallContent(id="call_1", type="function", function={"name": "add", "arguments": "{}"})
        message = Message(content=[TextContent("Let me see."), call], role="assistant")
        assert message.wire == {
            "role": "assistant",
            "content": [{"type": "text", "text": "Let me see."}],
            "tool_calls": [CALL],
        }
        assert Message([call], "assistant", tool_calls=[{**CALL, "id": "call_0"}]).wire == {
            "role": "assistant",
            "content": None,
            "tool_calls": [{**CALL, "id": "call_0"}, CALL],
        }

    def test_a_tool_call_is_said_by_the_assistant(self) -> None:
        with pytest.raises(ValidationError, match="a tool call is said by the assistant"):
            Message([ToolCallContent("call_1", "function", {"name": "add"})], "user")

    @pytest.mark.parametrize("given_as", [CALL, ToolCallContent(**CALL)])  # type: ignore[arg-type]
    def test_tool_calls_equal_plain_dicts_and_have_attributes(self, given_as: Any) -> None:
        message = Message(None, "assistant", tool_calls=[given_as])
        assert message.tool_calls == [CALL]
        (call,) = message.tool_calls
        assert isinstance(call, ToolCallContent)
        assert (call.id, call.type, call.function.name, call.function["arguments"]) == (
            "call_1",
            "function",
            "add",
            "{}",
        )


class TestMessageDicts:
    def test_the_keys_of_0_1_are_there(self) -> None:
        message = Message("hi", "user", "m1", NOON, {"k": 1}, 2)
        assert message.to_dict() == {
            "id": "m1",
            "role": "user",
            "content": "hi",
            "created_at": "2024-05-01T12:00:00+00:00",
            "metadata": {"k": 1},
            "token_count": 2,
            "tokens": {"count": 2, "encoding": "given"},
        }
        assert Message(role="assistant", tool_calls=[CALL]).to_dict()["content"] is None
        assert Message(None, "assistant", tool_calls=[CALL]).to_dict()["tool_calls"] == [CALL]

    def test_a_dict_of_0_1_is_read(self) -> None:
        message = Message.from_dict(
            {
                "id": "m1",
                "role": "assistant",
                "content": "",
                "created_at": "2024-05-01T12:00:00",
                "metadata": {"k": 1},
                "token_count": 3,
                "tool_calls": [CALL],
                "tool_call_id": None,
                "function_call": None,
                "name": None,
            }
        )
        assert message == Message("", "assistant", "m1", NOON, {"k": 1}, 3, [CALL])
        assert Message.from_dict({"content": "hi", "role": "user"}).content == "hi"

    @pytest.mark.parametrize(
        ("part", "image"),
        [
            ({"type": "image", "image_url": {"url": "u", "detail": "low"}}, ImageContent("u", "low")),
            ({"type": "image", "image_url": {"url": "u"}}, ImageContent("u")),
            ({"type": "image", "url": "u"}, ImageContent("u")),
            ({"type": "image", "url": "u", "detail": "high"}, ImageContent("u", "high")),
            ({"type": "image_url", "image_url": {"url": "u"}}, ImageContent("u")),
            ({"type": "image_url", "image_url": "u"}, ImageContent("u")),
        ],
    )
    def test_images_of_both_types_are_read(self, part: dict[str, Any], image: ImageContent) -> None:
        content = [{"type": "text", "text": "look"}, part]
        assert Message.from_dict({"role": "user", "content": content}).content == [TextContent("look"), image]

    def test_a_part_of_another_provider_stays_as_it_is(self) -> None:
        part = {"type": "image", "source": {"type": "base64", "data": "…"}}
        assert Message.from_dict({"role": "user", "content": [part]}).content == [part]

    @pytest.mark.parametrize("data", [None, "hi", ["hi"], {"content": "hi"}, {"role": "robot", "content": "hi"}])
    def test_what_is_no_message_is_refused(self, data: Any) -> None:
        with pytest.raises(ValidationError):
            Message.from_dict(data)

    @given(
        wire=st.dictionaries(st.text(min_size=1) | st.sampled_from(["id", "metadata", "tokens", "seq"]), json_values),
        content=st.none() | st.text() | st.just([{"type": "text", "text": "hi"}]),
        metadata=st.dictionaries(st.text(), json_values),
        pinned=st.booleans(),
        seq=st.none() | st.integers(0, 9),
    )
    def test_a_message_comes_back_from_its_dict(
        self, wire: dict[str, Any], content: Any, metadata: dict[str, Any], pinned: bool, seq: int | None
    ) -> None:
        wire = {key: value for key, value in wire.items() if value is not None} | {"role": "user", "content": content}
        call = CallInfo(model="m", usage={"total_tokens": 1})
        message = Message(wire=wire, metadata=metadata, pinned=pinned, seq=seq, turn_id="t", call=call, token_count=5)
        back = Message.from_dict(json.loads(json.dumps(message.to_dict())))
        assert (back, back.seq) == (message, seq)
        assert Message.from_dict(Message(role="assistant").to_dict()).wire == {"role": "assistant"}


class TestThreads:
    def test_a_message_is_added_at_the_end(self) -> None:
        thread = Thread(id="t", created_at=NOON)
        first, second = Message("a", "user"), Message("b", "assistant")
        thread.add_message(first)
        thread.add_message(second)
        assert thread.get_messages() == thread.messages == [first, second]
        assert thread.message_count == 2
        assert thread.updated_at > thread.created_at

    def test_a_thread_comes_back_from_its_dict(self) -> None:
        thread = Thread(
            "t", [Message([ImageContent("u")], "user")], {"k": 1}, NOON, user_id="ann", title="T", version=2
        )
        thread.state = {"cut": 3}
        data = thread.to_dict()
        assert list(data)[:5] == ["id", "messages", "metadata", "created_at", "updated_at"]
        assert data["created_at"] == "2024-05-01T12:00:00+00:00"
        assert Thread.from_dict(json.loads(json.dumps(data))) == thread

    def test_a_dict_without_anything_is_a_new_thread(self) -> None:
        thread = Thread.from_dict({})
        assert (thread.id != "", thread.messages, thread.metadata) == (True, [], {})
        assert set(thread.to_dict()) == {"id", "messages", "metadata", "created_at", "updated_at"}

    @pytest.mark.parametrize("data", [None, [], {"messages": "hi"}, {"messages": [5]}, {"created_at": "noon"}])
    def test_what_is_no_thread_is_refused(self, data: Any) -> None:
        with pytest.raises(ValidationError):
            Thread.from_dict(data)
