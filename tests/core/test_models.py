"""Messages and threads: a message is its wire form, views write through, refusals say what to do and show nothing."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from memexllm.core.errors import ValidationError
from memexllm.core.models import CallInfo, Message, Thread, TokenCount
from memexllm.core.moments import from_micros, new_id, to_micros
from memexllm.core.parts import WireDict
from memexllm.core.wire import copy_row, plain
from memexllm.testing._corpus import METADATA, OUR_FIELDS, WIRES, fingerprint, random_messages
from memexllm.testing.fakes import FakeClock, FakeIds, conversation

SECRET = "the secret of the bread"  # noqa: S105 - a text to look for
PARTS: list[dict[str, Any]] = [
    {"type": "text", "text": "Look: "},
    {"type": "image_url", "image_url": {"url": "x", "detail": "low"}},
]
CALLS: list[dict[str, Any]] = [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}]


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - of this very process


class TestWireForm:
    @pytest.mark.parametrize("kind", WIRES)
    def test_it_is_kept_as_it_was_given(self, kind: str) -> None:
        assert json.dumps(Message(wire=WIRES[kind]).wire) == json.dumps(WIRES[kind])

    def test_keys_keep_their_order(self) -> None:
        wire = {"z": 1, "content": "hi", "a": {"c": 1, "b": 2}, "role": "user"}
        assert json.dumps(Message(wire=wire).wire) == json.dumps(wire)

    def test_it_is_a_copy(self) -> None:
        wire: dict[str, Any] = {"role": "user", "content": [{"type": "text", "text": "a"}], "x": {"y": [1]}}
        message = Message(wire=wire)
        wire["content"][0]["text"] = "b"
        wire["x"]["y"].append(2)
        assert message.wire == {"role": "user", "content": [{"type": "text", "text": "a"}], "x": {"y": [1]}}

    def test_fields_become_the_wire_form(self) -> None:
        message = Message(None, "assistant", tool_calls=CALLS, name="ann", refusal="no", audio={"id": "a"})
        assert message.wire == {
            "role": "assistant",
            "content": None,
            "name": "ann",
            "refusal": "no",
            "tool_calls": CALLS,
            "audio": {"id": "a"},
        }

    def test_content_given_as_none_is_there_and_content_not_given_is_not(self) -> None:
        assert Message(None, "assistant").wire == {"role": "assistant", "content": None}
        assert Message(role="assistant").wire == {"role": "assistant"}
        assert Message("2", "tool", tool_call_id="c1", name=None).wire == {
            "role": "tool",
            "content": "2",
            "tool_call_id": "c1",
        }

    def test_objects_of_a_client_library_are_taken_as_their_wire_form(self) -> None:
        class Function(TokenCount): ...

        message = Message(None, "assistant", tool_calls=[{"id": "c", "function": Function(count=1, encoding="e")}])
        assert message.wire["tool_calls"] == [{"id": "c", "function": {"count": 1, "encoding": "e"}}]

    def test_wire_and_fields_together_are_refused(self) -> None:
        with pytest.raises(ValidationError, match=r"from wire= or from fields; both were given: \['content'\]"):
            Message(content="hi", wire={"role": "user"})

    @pytest.mark.parametrize("role", ["", "robot", "USER", None, 5])
    def test_an_unknown_role_is_refused(self, role: Any) -> None:
        with pytest.raises(ValidationError, match=r"Invalid role: .*; a message is by one of assistant, developer"):
            Message("hi", role)
        with pytest.raises(ValidationError, match="Invalid role"):
            Message("hi", "user").role = role

    def test_a_message_without_a_role_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="Invalid role: None"):
            Message(wire={"content": "hi"})

    @pytest.mark.parametrize("content", [5, 1.5, True, b"hi", {"type": "text"}, [1], [None], [["x"]]])
    def test_content_of_another_kind_is_refused(self, content: Any) -> None:
        with pytest.raises(ValidationError, match="Content must be a string or None, or a list of parts"):
            Message(content, "user")
        message = Message("hi", "user")
        with pytest.raises(ValidationError, match="Content must be"):
            message.content = content
        assert message.content == "hi"


class TestViews:
    def test_they_show_the_wire_form(self) -> None:
        message = Message(wire=WIRES["parallel tool calls"])
        assert (message.role, message.content, message.name) == ("assistant", "Wait.", None)
        assert [call.id for call in message.tool_calls] == ["call_f", "call_c"]
        assert message.tool_calls[0].function.name == "add"
        assert Message(wire=WIRES["tool"]).tool_call_id == "call_f"
        assert Message(wire=WIRES["refusal"]).refusal == "I will not."
        assert Message(wire=WIRES["audio"]).audio.id == "audio_1"
        assert Message(wire=WIRES["function call"]).function_call.name == "add"

    @pytest.mark.parametrize(
        ("view", "value"),
        [
            ("role", "assistant"),
            ("content", "other"),
            ("content", None),
            ("content", PARTS),
            ("name", "ann"),
            ("tool_calls", CALLS),
            ("tool_call_id", "c1"),
            ("function_call", {"name": "f", "arguments": ""}),
            ("refusal", "no"),
            ("audio", {"id": "a"}),
        ],
    )
    def test_assignment_writes_through(self, view: str, value: Any) -> None:
        message = Message("hi", "user")
        setattr(message, view, value)
        assert message.wire[view] == value
        assert getattr(message, view) == value

    @pytest.mark.parametrize("view", ["name", "tool_calls", "tool_call_id", "function_call", "refusal", "audio"])
    def test_assigning_none_takes_the_key_away(self, view: str) -> None:
        message = Message(wire={"role": "assistant", "content": "hi", view: {"id": "x"}})
        setattr(message, view, None)
        assert view not in message.wire

    def test_assigned_values_are_copies(self) -> None:
        calls = copy.deepcopy(CALLS)
        message = Message(None, "assistant")
        message.tool_calls = calls
        calls[0]["id"] = "other"
        assert message.tool_calls[0].id == "c1"

    def test_attributes_of_parts_write_through(self) -> None:
        message = Message(PARTS, "user")
        message.content[0].text = "See: "
        message.content[1].image_url.detail = "high"
        del message.content[1].image_url.url
        assert message.wire["content"] == [
            {"type": "text", "text": "See: "},
            {"type": "image_url", "image_url": {"detail": "high"}},
        ]

    def test_parts_are_dicts_for_everybody_else(self) -> None:
        message = Message(PARTS, "user")
        part = message.content[1]
        assert isinstance(part, dict)
        assert isinstance(part, WireDict)
        assert part == PARTS[1]
        assert json.dumps(message.content) == json.dumps(PARTS)
        assert json.dumps(message.wire["content"]) == json.dumps(PARTS)
        assert part.image_url.url == part["image_url"]["url"] == "x"

    def test_an_attribute_that_is_not_there_says_what_is(self) -> None:
        (part,) = Message([{"type": "text", "text": SECRET}], "user").content
        with pytest.raises(AttributeError, match=r"'text' has no field 'url'; it has \['text', 'type'\]") as refusal:
            part.url  # noqa: B018 - the point of the test
        assert SECRET not in str(refusal.value)
        assert not hasattr(part, "url")
        with pytest.raises(AttributeError):
            del part.url

    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickled])
    def test_parts_can_be_copied(self, duplicate: Callable[[Any], Any]) -> None:
        part = Message(PARTS, "user").content[1]
        again = duplicate(part)
        assert again == part
        assert again.image_url.url == "x"

    @pytest.mark.parametrize(
        ("content", "text"),
        [
            (None, ""),
            ("hi", "hi"),
            (PARTS, "Look: "),
            ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
            ([], ""),
        ],
    )
    def test_text_is_the_text_parts_joined(self, content: Any, text: str) -> None:
        assert Message(content, "user").text == text


class TestTimesAndIds:
    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            (datetime(2025, 1, 1, 12), datetime(2025, 1, 1, 12, tzinfo=UTC)),
            (datetime(2025, 1, 1, 12, tzinfo=timezone(timedelta(hours=2))), datetime(2025, 1, 1, 10, tzinfo=UTC)),
            ("2025-01-01T12:00:00", datetime(2025, 1, 1, 12, tzinfo=UTC)),
            ("2025-01-01T12:00:00Z", datetime(2025, 1, 1, 12, tzinfo=UTC)),
            ("2025-01-01T12:00:00.123456+02:00", datetime(2025, 1, 1, 10, 0, 0, 123456, tzinfo=UTC)),
        ],
    )
    def test_times_become_aware_utc(self, given: Any, kept: datetime) -> None:
        message, thread = Message("hi", "user", created_at=given), Thread("t", created_at=given)
        assert message.created_at == thread.created_at == thread.updated_at == kept
        assert message.created_at.tzinfo is thread.created_at.tzinfo is UTC
        message.created_at = given
        assert message.created_at.tzinfo is UTC

    @pytest.mark.parametrize("given", ["yesterday", "", [], object()])
    def test_what_is_no_time_is_refused(self, given: Any) -> None:
        with pytest.raises(ValidationError, match="created_at"):
            Message("hi", "user", created_at=given)

    def test_microseconds_are_exact(self) -> None:
        for moment in (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)):
            assert from_micros(to_micros(moment)) == moment

    def test_ids_are_made_and_differ_and_sort_by_time(self) -> None:
        ids = [new_id() for _ in range(1000)]
        assert len(set(ids)) == 1000
        assert [each[:16] for each in ids] == sorted(each[:16] for each in ids)
        assert Message("a", "user").id != Message("a", "user").id
        assert Thread().id != Thread().id

    def test_an_empty_message_id_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="id: String should have at least 1 character"):
            Message("hi", "user", id="")


class TestRefusals:
    def test_a_message_that_is_nested_too_deeply_is_refused(self) -> None:
        deep: Any = "x"
        for _ in range(5000):
            deep = [deep]
        with pytest.raises(ValidationError, match="nested too deeply"):
            Message([{"type": "text", "text": deep}], "user")

    @pytest.mark.parametrize(
        "fields",
        [
            {"metadata": {"k": {1, 2}}},
            {"metadata": SECRET},
            {"status": SECRET},
            {"turn_id": [SECRET]},
            {"call": {"no_such_field": SECRET}},
            {"tokens": {"count": SECRET, "encoding": "e"}},
            {"id": [SECRET]},
            {"seq": SECRET},
        ],
        ids=str,
    )
    def test_they_name_the_field_and_show_no_content(self, fields: dict[str, Any]) -> None:
        with pytest.raises(ValidationError, match=f"message refused: {next(iter(fields))}") as refusal:
            Message(SECRET, "user", **fields)
        assert SECRET not in str(refusal.value)
        assert refusal.value.__cause__ is None
        assert refusal.value.__suppress_context__

    def test_content_that_is_refused_is_not_shown(self) -> None:
        for content in ({"text": SECRET}, [SECRET, 5], SECRET.encode()):
            with pytest.raises(ValidationError) as refusal:
                Message(content, "user")  # type: ignore[arg-type]  # the point of the test
            assert SECRET not in str(refusal.value)

    @pytest.mark.parametrize(
        "fields", [{"metadata": [SECRET]}, {"messages": [SECRET]}, {"state": 5}, {"user_id": 5}, {"title": 5}]
    )
    def test_threads_are_checked_too(self, fields: dict[str, Any]) -> None:
        with pytest.raises(ValidationError, match=f"thread refused: {next(iter(fields))}") as refusal:
            Thread("t", **fields)
        assert SECRET not in str(refusal.value)


class TestWhatIsShown:
    @pytest.mark.parametrize("show", [repr, str, "{}".format])
    def test_a_message_shows_no_content(self, show: Callable[[object], str]) -> None:
        message = Message(SECRET, "user", metadata={"k": SECRET}, id="m1", seq=3, status="incomplete")
        assert show(message) == "Message(role='user', id='m1', seq=3, status='incomplete')"

    @pytest.mark.parametrize("show", [repr, str, "{}".format])
    def test_a_thread_shows_no_content(self, show: Callable[[object], str]) -> None:
        thread = Thread("t", messages=[Message(SECRET, "user")], metadata={"k": SECRET}, title=SECRET, version=2)
        assert show(thread) == "Thread(id='t', messages=1, version=2)"


class TestEquality:
    def test_messages_are_equal_in_all_but_their_position(self) -> None:
        fields: dict[str, Any] = {"id": "m", "created_at": datetime(2025, 1, 1, tzinfo=UTC)}
        assert Message("hi", "user", **fields) == Message("hi", "user", **fields, seq=7)
        assert Message("hi", "user", **fields) != Message("ho", "user", **fields)
        assert Message("hi", "user", **fields) != "hi"

    @pytest.mark.parametrize("kind", OUR_FIELDS)
    def test_every_field_of_ours_counts(self, kind: str) -> None:
        fields: dict[str, Any] = {"id": "m", "created_at": datetime(2025, 1, 1, tzinfo=UTC)}
        assert Message("hi", "user", **fields) != Message("hi", "user", **{**fields, **OUR_FIELDS[kind]})

    def test_a_message_that_was_looked_at_is_still_equal(self) -> None:
        message = Message(wire=WIRES["parallel tool calls"], id="m", created_at=datetime(2025, 1, 1, tzinfo=UTC))
        other = message.model_copy(deep=True)
        assert message.tool_calls[0].function.name == "add"
        assert message == other

    def test_threads_are_equal_in_all_but_what_was_counted(self) -> None:
        thread = Thread("t", messages=conversation(1), metadata=METADATA, user_id="ann")
        assert thread == thread.model_copy(update={"stored_messages": 3})
        changes: dict[str, Any] = {"metadata": {}, "user_id": None, "title": "x", "version": 9, "partial": True}
        for name, value in changes.items():
            assert thread != thread.model_copy(update={name: value})

    def test_neither_can_be_hashed(self) -> None:
        for each in (Message("hi", "user"), Thread("t")):
            with pytest.raises(TypeError, match="unhashable"):
                hash(each)


class TestRows:
    @pytest.mark.parametrize("seed", range(5))
    def test_a_message_comes_back_from_its_row(self, seed: int) -> None:
        for message in random_messages(seed, 20):
            row = json.loads(json.dumps(copy_row(message.row())))
            assert Message.from_row(row) == message
            assert fingerprint(Message.from_row(row)) == fingerprint(message)

    def test_defaults_take_no_room(self) -> None:
        row = Message("hi", "user", id="m", created_at=from_micros(5)).row()
        assert row == {"id": "m", "created_at": 5, "wire": {"role": "user", "content": "hi"}}

    def test_an_answer_says_where_it_came_from(self) -> None:
        row = Message("hi", "assistant", call=CallInfo(model="m", server="s", cut_seq=0)).row()
        assert row.get("origin") == ["s", "m"]
        assert row.get("call") == {"model": "m", "server": "s", "cut_seq": 0}

    def test_a_copied_row_shares_nothing(self) -> None:
        row = Message(PARTS, "user", metadata={"k": [1]}).row()
        again = copy_row(row)
        again["wire"]["content"][0]["text"] = "other"
        again.get("metadata", {})["k"].append(2)
        assert row["wire"]["content"] == PARTS
        assert row.get("metadata") == {"k": [1]}

    def test_plain_makes_lists_and_dicts_of_everything(self) -> None:
        value: dict[Any, Any] = {"a": (1, {"b": WireDict(c=iter([1, 2]))}), 5: CallInfo(model="m")}
        assert plain(value) == {"a": [1, {"b": {"c": [1, 2]}}], "5": {"model": "m"}}
        assert type(plain(value)["a"][1]["b"]) is dict


class TestThreads:
    def test_live_messages_are_counted(self) -> None:
        thread = Thread("t", messages=[Message("a", "user"), Message("b", "user", superseded=True)])
        assert thread.message_count == 1
        assert thread.changed(partial=True, stored_messages=30).message_count == 30

    def test_a_changed_copy_leaves_the_thread_as_it_is(self) -> None:
        thread = Thread("t", title="a")
        assert (thread.changed(title="b").title, thread.title) == ("b", "a")


class TestFakes:
    def test_a_clock_moves_only_when_told(self) -> None:
        clock = FakeClock(datetime(2025, 1, 1, 12, tzinfo=timezone(timedelta(hours=2))))
        assert clock() == clock() == datetime(2025, 1, 1, 10, tzinfo=UTC)
        assert clock.advance(1.5) == clock() == datetime(2025, 1, 1, 10, 0, 1, 500000, tzinfo=UTC)
        clock.advance(timedelta(days=1))
        assert clock() == datetime(2025, 1, 2, 10, 0, 1, 500000, tzinfo=UTC)
        assert clock().tzinfo is UTC
        with pytest.raises(ValidationError, match="does not go back"):
            clock.advance(-1)

    def test_a_naive_start_is_utc(self) -> None:
        assert FakeClock(datetime(2025, 1, 1))() == datetime(2025, 1, 1, tzinfo=UTC)

    def test_ids_count(self) -> None:
        ids = FakeIds("m")
        assert [ids(), ids()] == ["m-000001", "m-000002"]
        assert FakeIds()() == "id-000001"

    def test_a_conversation_is_the_same_for_the_same_seed(self) -> None:
        assert conversation(3) == conversation(3)
        assert conversation(3) != conversation(4)

    @pytest.mark.parametrize("seed", range(10))
    def test_a_conversation_is_valid(self, seed: int) -> None:
        waiting: list[str] = []
        messages = conversation(seed, turns=20)
        for message in messages:
            if message.role == "tool":
                waiting.remove(message.tool_call_id or "")
            else:
                assert not waiting
                waiting = [call.id for call in message.tool_calls or ()]
        assert not waiting
        assert sum(message.role == "user" for message in messages) == 20
        assert any(message.role == "tool" for message in messages)
        times = [message.created_at for message in messages]
        assert times == sorted(set(times))
