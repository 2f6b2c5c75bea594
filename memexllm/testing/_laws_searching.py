"""The contract of `search_messages`: words find what was said, in the threads that are asked, while it stands."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from memexllm.core.errors import ValidationError
from memexllm.core.hits import MessageHit
from memexllm.core.models import Message
from memexllm.testing._driven import DrivenStorage, says
from memexllm.testing._laws_apart import HOSTILE

BREAD = "I bake sourdough bread on Sundays"
CORPUS = (
    "Good morning",
    BREAD,
    "Which flour do you use",
    "Rye, from the mill in the valley",
    "My sister plays the violin in an orchestra",
    "The concert was moved to March",
    "We need a new roof before winter",
    "The insurance pays half of it",
    "Lisbon was warm, and the trams were full",
    "We ate grilled sardines near the river",
)
SYNTAX = (
    '"',
    "'",
    "*",
    "^",
    "bread*",
    '"bread',
    "bread AND",
    "NEAR(bread sunday)",
    "turn:bread",
    "bread -sunday",
    "{bread}",
)


class SearchingLaws:
    @pytest.fixture
    def spoken(self, store: DrivenStorage) -> DrivenStorage:
        """Thread "t" of ann holds `CORPUS`."""
        store.append("t", *says(*CORPUS), create={"user_id": "ann"})
        return store

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("sourdough", BREAD),
            ("What is it that you bake?", BREAD),
            ("BREAD", BREAD),
            ("baking", BREAD),
            ("who plays the violin", CORPUS[4]),
            ("concerts in march", CORPUS[5]),
            ("how much do insurances pay", CORPUS[7]),
            ("grilled sardines, river", CORPUS[9]),
        ],
    )
    def test_searching_finds_the_right_message_first(self, spoken: DrivenStorage, query: str, expected: str) -> None:
        first, *others = hits(spoken, query)
        assert first.message.text == expected
        assert first.thread_id == "t"
        assert all(first.score > each.score for each in others)

    def test_hits_are_ordered_by_score_and_limited(self, spoken: DrivenStorage) -> None:
        every = hits(spoken, "the river in the valley, bread, violin", limit=100)
        scores = [each.score for each in every]
        assert scores == sorted(scores, reverse=True)
        assert len({each.message.seq for each in every}) == len(every) > 4
        assert found(spoken, "the river in the valley, bread, violin", limit=2) == [
            each.message.text for each in every[:2]
        ]

    def test_a_snippet_shows_what_matched(self, store: DrivenStorage) -> None:
        filler = "nothing of interest here " * 40
        store.start("t", *says(f"{filler}\nthe Zeppelins\tlanded at dawn {filler}", "short zeppelin"))
        for each in hits(store, "zeppelin landing"):
            assert each.snippet.isprintable()
            assert len(each.snippet) < 200
            marked = [each.snippet[start:end] for start, end in each.highlights]
            assert marked in (["Zeppelins", "landed"], ["zeppelin"])

    def test_a_hit_shows_nothing_of_what_was_said_in_its_repr(self, spoken: DrivenStorage) -> None:
        assert "bread" not in repr(hits(spoken, "sourdough"))

    def test_a_found_message_is_the_stored_one_and_the_callers_own(self, store: DrivenStorage) -> None:
        store.start("t", Message("sourdough", "user", name="ann", metadata={"k": [1]}, turn_id="1"))
        (stored,) = store.read_messages("t")
        (first,) = hits(store, "sourdough")
        assert first.message == stored
        assert first.message.seq == stored.seq
        first.message.metadata["k"] = "changed"
        first.message.wire["content"] = "changed"
        assert store.read_messages("t") == [stored]
        assert found(store, "sourdough") == ["sourdough"]

    def test_a_speaker_is_found_by_name(self, store: DrivenStorage) -> None:
        moment = datetime(2024, 5, 1, tzinfo=UTC)
        store.start(
            "t",
            Message("hello", "user", name="Edsger", created_at=moment),
            Message("hello", "user", metadata={"speaker": "Barbara"}, created_at=moment + timedelta(days=1)),
            Message("hello", "user", created_at=moment + timedelta(days=2)),
        )
        assert [each.message.name for each in hits(store, "edsger")] == ["Edsger"]
        assert [each.message.metadata for each in hits(store, "barbara")] == [{"speaker": "Barbara"}]

    def test_neighbours_are_found_after_the_message_itself_unless_there_was_a_pause(self, store: DrivenStorage) -> None:
        moment = datetime(2024, 5, 1, tzinfo=UTC)
        minutes = (0, 61, 62, 123)
        texts = ("before a pause", "which colour", "zebra stripes", "after a pause")
        store.start(
            "t",
            *(
                Message(text, "user", created_at=moment + timedelta(minutes=minute, seconds=minute // 100))
                for text, minute in zip(texts, minutes, strict=True)
            ),
        )
        first, second = hits(store, "zebra")
        assert (first.message.text, second.message.text) == ("zebra stripes", "which colour")
        assert first.highlights
        assert not second.highlights

    @pytest.mark.parametrize(
        ("text", "queries"),
        [
            ("昨日、東京タワーに行きました。", ["東京", "タワー", "東京タワー", "京タ", "行"]),
            ("我们明天去北京看长城", ["北京", "长城", "明天去北京"]),
            ("내일 서울에서 만나요", ["서울", "서울에서"]),
            ("พรุ่งนี้ไปกรุงเทพ", ["กรุงเทพ"]),
            ("Le café de Zoë à Århus", ["cafe", "CAFÉ", "zoe", "cafe\u0301", "arhus"]),
            ("Привет из Москвы", ["привет", "МОСКВЫ"]),
            ("नमस्ते दुनिया", ["दुनिया"]),
            ("that was fun 🙂", ["🙂"]),
            ("a_snake and e-mail", ["snake", "mail", "e-mail", "a_snake"]),
        ],
    )
    def test_every_script_is_found(self, store: DrivenStorage, text: str, queries: list[str]) -> None:
        store.start("t", *says("quite another matter", "天気がいい", "그리고 나서", "وهذا شيء آخر"))
        store.start("u", *says(text))
        for query in queries:
            best = hits(store, query)[0]
            assert best.message.text == text, query
            assert best.highlights, query

    def test_only_stop_words_are_looked_for_when_there_is_nothing_else(self, store: DrivenStorage) -> None:
        store.start("t", *says("to be or not to be"))
        store.start("u", *says("something else"))
        assert found(store, "to be") == ["to be or not to be"]

    @pytest.mark.parametrize("query", SYNTAX)
    def test_law07_a_query_is_words(self, spoken: DrivenStorage, query: str) -> None:
        expected = [BREAD] if "bread" in query else []
        assert found(spoken, query)[:1] == expected

    def test_law07_hostile_queries_find_hostile_texts(self, store: DrivenStorage) -> None:
        for number, word in enumerate(HOSTILE[:-1]):
            if word.strip() and word != "\ud83d":
                store.start(f"t{number}", *says(word))
                for each in hits(store, word, limit=100):
                    assert each.message.text in HOSTILE
        assert "x" * 10_000 in found(store, "x" * 10_000)
        assert hits(store, "plain " * 2000, limit=1)

    @pytest.mark.parametrize(
        "arguments",
        [
            {"text": ""},
            {"text": " \n\t"},
            {"text": "\ud83d"},
            {"text": None},
            {"thread_id": ""},
            {"thread_id": "\ud83d"},
            {"user_id": "\ud83d"},
            {"limit": 0},
            {"limit": -1},
        ],
        ids=repr,
    )
    def test_law07_what_is_no_search_is_refused(self, spoken: DrivenStorage, arguments: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            spoken.call("search_messages", **{"text": "bread", **arguments})

    def test_law07_threads_and_users_are_apart(self, store: DrivenStorage) -> None:
        for thread, user in (("a1", "ann"), ("a2", "ann"), ("b1", "bob"), ("n", None)):
            store.append(thread, *says(f"zebra of {thread}"), create={} if user is None else {"user_id": user})
        assert sorted(found(store, "zebra")) == ["zebra of a1", "zebra of a2", "zebra of b1", "zebra of n"]
        assert sorted(found(store, "zebra", user_id="ann")) == ["zebra of a1", "zebra of a2"]
        assert found(store, "zebra", thread_id="b1") == ["zebra of b1"]
        assert found(store, "zebra", thread_id="a1", user_id="ann") == ["zebra of a1"]
        assert found(store, "zebra", thread_id="b1", user_id="ann") == []
        assert found(store, "zebra", thread_id="nobody") == found(store, "zebra", user_id="nobody") == []
        for word in HOSTILE:
            if word not in ("", "\ud83d"):
                assert found(store, "zebra", user_id=word) == found(store, "zebra", thread_id=word) == []

    def test_a_thread_that_changes_its_user_is_found_with_the_new_one(self, spoken: DrivenStorage) -> None:
        assert found(spoken, "sourdough", user_id="ann")
        spoken.call("patch_thread", "t", user_id="bob")
        assert found(spoken, "sourdough", user_id="ann") == []
        assert found(spoken, "sourdough", user_id="bob")[0] == BREAD

    def test_what_is_said_after_a_search_is_found_by_the_next(self, spoken: DrivenStorage) -> None:
        assert found(spoken, "zeppelin") == []
        spoken.append("t", *says("a zeppelin over the river"))
        assert found(spoken, "zeppelin") == ["a zeppelin over the river", CORPUS[-1]]
        spoken.append("t", *says("how nice"))
        assert found(spoken, "nice") == ["how nice", "a zeppelin over the river"]
        assert found(spoken, "zeppelin")[0] == "a zeppelin over the river"

    def test_superseded_messages_are_not_found(self, spoken: DrivenStorage) -> None:
        seqs = spoken.seqs("t")
        spoken.append("t", supersede_from=seqs[4])
        assert found(spoken, "violin") == []
        assert found(spoken, "sourdough")[0] == BREAD
        spoken.append("t", *says("better"), supersede=[seqs[1]])
        assert found(spoken, "sourdough") == []
        # What it stood between are neighbours now.
        assert set(found(spoken, "morning")) == {CORPUS[0], CORPUS[2]}

    def test_a_replaced_message_is_found_by_its_new_text(self, spoken: DrivenStorage) -> None:
        for old, new in (("sourdough", "croissants"), ("croissants", "pretzels")):
            assert old in found(spoken, old)[0]
            stored = spoken.read_messages("t")[1]
            spoken.call("replace_message", "t", stored.id, Message(f"I bake {new}", "user", id=stored.id))
            assert found(spoken, old) == []
            assert found(spoken, new)[0] == f"I bake {new}"

    def test_deleted_messages_are_not_found(self, spoken: DrivenStorage) -> None:
        spoken.start("u", *says("a violin of my own"))
        assert len(found(spoken, "violin")) > 1
        spoken.delete_thread("t")
        assert found(spoken, "violin") == ["a violin of my own"]
        spoken.start("t", *says("a new beginning"))
        assert found(spoken, "sourdough beginning") == ["a new beginning"]

    def test_a_saved_thread_is_found_as_it_was_saved(self, spoken: DrivenStorage) -> None:
        whole = spoken.whole_thread("t")
        assert found(spoken, "sourdough")
        spoken.save_thread(whole.changed(messages=[*says("a zeppelin"), *whole.messages[2:]]))
        assert found(spoken, "sourdough") == []
        assert found(spoken, "zeppelin")[0] == "a zeppelin"

    def test_law08_what_max_messages_deletes_is_not_found(self, limited: DrivenStorage) -> None:
        limited.storage.max_messages = 3
        limited.start("t", *says("zebra", "b", "c"))
        assert found(limited, "zebra")
        limited.append("t", *says("d"))
        assert found(limited, "zebra") == []
        assert found(limited, "b")[0] == "b"

    def test_messages_that_say_nothing_are_not_found(self, store: DrivenStorage) -> None:
        calls = [{"id": "call_1", "type": "function", "function": {"name": "zebra", "arguments": "{}"}}]
        store.start(
            "t",
            Message(None, "user"),
            Message("  ", "user"),
            Message(None, "assistant", tool_calls=calls),
            Message("striped", "tool", tool_call_id="call_1"),
            Message([{"type": "text", "text": "two parts, "}, {"type": "text", "text": "one giraffe"}], "user"),
            Message(None, "assistant", refusal="No okapi today"),
        )
        assert found(store, "zebra") == []
        assert found(store, "stripes")[0] == "striped"
        assert found(store, "giraffe")[0] == "two parts, one giraffe"
        assert hits(store, "okapi")[0].snippet == "No okapi today"


def hits(store: DrivenStorage, text: str, **scope: Any) -> list[MessageHit]:
    result: list[MessageHit] = store.call("search_messages", text, **scope)
    assert all(isinstance(each, MessageHit) for each in result)
    return result


def found(store: DrivenStorage, text: str, **scope: Any) -> list[str]:
    """The texts of the hits, best first."""
    return [each.message.text for each in hits(store, text, **scope)]
