"""Laws of history stores."""

from __future__ import annotations

from typing import Any

import pytest

from memexllm.core.models import Message
from memexllm.memory.stores.checking import check_store
from memexllm.memory.stores.protocols import HistoryStore
from memexllm.testing._store_driven import HOSTILE, REFUSED, UNKNOWN, DrivenStore

CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}


def said(messages: Any) -> list[Any]:
    return [message.content for message in messages]


def talk(*texts: str) -> list[Message]:
    return [Message(text, "assistant" if place % 2 else "user") for place, text in enumerate(texts)]


class KeepingHistory:
    """What a history store promises."""

    def test_law01_it_has_the_methods_of_the_protocol(self, history: DrivenStore) -> None:
        check_store(history.store, HistoryStore, "history")
        assert isinstance(history.store, HistoryStore)

    def test_law02_messages_come_back_whole_and_in_order(self, history: DrivenStore) -> None:
        messages = [
            Message("What is the weather? ☀", "user", metadata={"tags": ["a", None]}, name="ada"),
            Message(None, "assistant", tool_calls=[CALL]),
            Message("sunny", "tool", tool_call_id="call_1"),
            Message([{"type": "text", "text": "It is sunny."}], "assistant"),
        ]
        history.add(session_id="a", messages=messages[:1], user_id="ada")
        history.add(session_id="a", messages=messages[1:])
        found = history.get(session_id="a")
        assert [message.wire for message in found] == [message.wire for message in messages]
        assert [(each.id, each.created_at, each.metadata) for each in found] == [
            (each.id, each.created_at, each.metadata) for each in messages
        ]

    def test_law02_a_session_that_is_not_there_has_no_messages(self, history: DrivenStore) -> None:
        assert list(history.get(session_id="nothing")) == []
        assert list(history.search(session_id="nothing", query="tea")) == []
        assert history.get_all() == []

    def test_law03_pages_lead_back_to_the_beginning(self, history: DrivenStore) -> None:
        history.add(session_id="a", messages=talk(*(str(number) for number in range(7))))
        pages, cursor = [], None
        while True:
            page = history.get(session_id="a", limit=3, cursor=cursor)
            pages.append(said(page))
            cursor = page.next_cursor
            if cursor is None:
                break
        assert pages == [["4", "5", "6"], ["1", "2", "3"], ["0"]]

    def test_law03_a_message_is_found_by_what_it_says(self, history: DrivenStore) -> None:
        history.add(session_id="a", messages=talk("I like tea", "Noted", "And bread", "Noted too"))
        history.add(session_id="b", messages=talk("tea everywhere"))
        assert said(history.search(session_id="a", query="bread", limit=1)) == ["And bread"]
        assert "tea everywhere" not in said(history.search(session_id="a", query="tea"))

    def test_law05_what_is_deleted_is_gone(self, history: DrivenStore) -> None:
        for session in ("a", "b"):
            history.add(session_id=session, messages=talk("tea"), user_id="ada")
        history.delete(session_id="a")
        assert list(history.get(session_id="a")) == []
        assert history.get_all(user_id="ada") == ["b"]

    def test_law05_nobody_deletes_everything_by_saying_nothing(self, history: DrivenStore) -> None:
        history.add(session_id="a", messages=talk("tea"), user_id="ada")
        with pytest.raises(REFUSED):
            history.delete_all()
        assert said(history.get(session_id="a")) == ["tea"]

    def test_law06_a_user_has_his_own_sessions_only(self, history: DrivenStore) -> None:
        for user in HOSTILE:
            history.add(session_id=f"of {user}", messages=talk(f"tea of {user}"), user_id=user)
        history.add(session_id="nobody's", messages=talk("tea"))
        for user in HOSTILE:
            assert history.get_all(user_id=user) == [f"of {user}"]
            assert said(history.search(session_id=f"of {user}", query="tea")) == [f"tea of {user}"]
        assert history.get_all(user_id="bob") == []
        assert len(history.get_all(limit=3)) == 3

    def test_law06_nobody_speaks_in_anothers_session(self, history: DrivenStore) -> None:
        history.add(session_id="a", messages=talk("tea"), user_id="alice")
        for user in ("bob", "Alice", "%"):
            with pytest.raises(UNKNOWN):
                history.add(session_id="a", messages=talk("stolen"), user_id=user)
        assert said(history.get(session_id="a")) == ["tea"]
        assert history.get_all(user_id="bob") == []

    def test_law06_deleting_all_of_one_takes_nothing_from_others(self, history: DrivenStore) -> None:
        for user in HOSTILE:
            history.add(session_id=f"of {user}", messages=talk("tea"), user_id=user)
        for gone, user in enumerate(HOSTILE, start=1):
            history.delete_all(user_id=user)
            left = [f"of {each}" for each in HOSTILE[gone:]]
            assert sorted(history.get_all()) == sorted(left)

    def test_law08_messages_added_at_once_are_all_there(self, history: DrivenStore) -> None:
        history.at_once("add", [{"session_id": "a", "messages": talk(str(number))} for number in range(10)])
        assert sorted(said(history.get(session_id="a"))) == sorted(str(number) for number in range(10))
