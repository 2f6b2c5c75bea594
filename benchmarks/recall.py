"""How often a search finds what answers a question: `python -m benchmarks.recall --data FOLDER`.

The folder holds dialogues in LoCoMo's form: `session_N` (turns with `dia_id`, `speaker`, `text`) with
`session_N_date_time`, and `qa` (a `question`, the turns of its `evidence`, a `category`). Each dialogue becomes a
thread whose turns have a `name`; a session's turns follow one another by a minute. A question searches its dialogue.

With `--vectors` the same is asked of `MessageRecall`, with the vectors in the folder's `minilm.npz` (for each dialogue
`NAME_turns` and `NAME_questions`, in order): the two searches fused, without and with the weight of names.

And it is asked what a fused search takes at 10,000 messages, the dialogues said again and again: in one thread, among
a user's 100 threads, and of everybody.

Recall@k is the mean share of a question's evidence among the first k hits; hit@k the share of questions with any of it;
MRR the mean of 1 / place of the first. Questions of category 5 (unanswerable) and without evidence are left out.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from pathlib import Path
from statistics import fmean, median
from time import perf_counter, process_time
from typing import Any

from memexllm import BaseStorage, HistoryManager, MemoryStorage, Message, MessageHit, MessageRecall, SQLiteStorage
from memexllm.memory._recall_ranking import SPEAKER_WEIGHT
from memexllm.providers import CallableEmbeddings

CATEGORIES = {4: "single-hop", 1: "multi-hop", 2: "temporal", 3: "open-domain"}
DEPTHS = (5, 10, 25)
N_MESSAGES = 10_000
Dialogues = Mapping[str, dict[str, Any]]
Search = Callable[..., list[MessageHit]]
_TURN = re.compile(r"D\d+:\d+")


@dataclass(frozen=True)
class Answer:
    """The places, from 1, at which a question's evidence was found; None for what was not."""

    category: int
    places: list[int | None]

    def recall(self, depth: int) -> float:
        return fmean(place is not None and place <= depth for place in self.places)

    def hit(self, depth: int) -> float:
        return float(self.recall(depth) > 0)

    def reciprocal(self) -> float:
        return max(1 / place if place is not None else 0.0 for place in self.places)


def turns_of(dialogue: dict[str, Any]) -> Iterator[Message]:
    number = 1
    while (session := dialogue.get(f"session_{number}")) is not None:
        moment = _moment(dialogue[f"session_{number}_date_time"])
        for place, turn in enumerate(session):
            role = "user" if turn["speaker"] == dialogue["speaker_a"] else "assistant"
            yield Message(
                turn["text"],
                role,
                name=turn["speaker"],
                id=turn["dia_id"],
                created_at=moment + timedelta(minutes=place),
            )
        number += 1


def _moment(text: str) -> datetime:
    return datetime.strptime(text, "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)


def answers_of(search: Search, thread_id: str, dialogue: dict[str, Any], spent: list[float]) -> Iterator[Answer]:
    """Of a dialogue that is stored in that thread; `spent` gets the seconds of each search."""
    known = {turn.id for turn in turns_of(dialogue)}
    for asked in dialogue["qa"]:
        # One string may hold several ids, and an id may be written with leading zeros.
        named = [_TURN.findall(text) for text in asked.get("evidence", ())]
        evidence = {each for ids in named for each in ids} & known
        if asked["category"] not in CATEGORIES or not evidence:
            continue
        started = perf_counter()
        hits = search(asked["question"], thread_id=thread_id, limit=max(DEPTHS))
        spent.append(perf_counter() - started)
        places = {hit.message.id: place for place, hit in enumerate(hits, start=1)}
        yield Answer(asked["category"], [places.get(each) for each in sorted(evidence)])


def stored(make: Callable[[], BaseStorage], dialogues: Dialogues) -> dict[str, BaseStorage]:
    """Each dialogue in a storage of its own, as the only thread."""
    storages = {name: make() for name in dialogues}
    for name, storage in storages.items():
        manager = HistoryManager(storage)
        manager.create_thread(thread_id=name)
        manager.add_messages(name, turns_of(dialogues[name]))
    return storages


def embeddings_of(path: Path, dialogues: Dialogues) -> CallableEmbeddings:
    """The vectors of turns and questions, by their text."""
    import numpy

    vectors = numpy.load(path)
    known: dict[str, Any] = {}
    for name, dialogue in dialogues.items():
        texts = [f"{turn.name}: {turn.text}" for turn in turns_of(dialogue)]
        known.update(zip(texts, vectors[f"{name}_turns"], strict=True))
        questions = [asked["question"] for asked in dialogue["qa"]]
        known.update(zip(questions, vectors[f"{name}_questions"], strict=True))
    return CallableEmbeddings(lambda texts: [known[text] for text in texts], batched=True)


def measured_at_length(dialogues: Dialogues, embeddings: CallableEmbeddings) -> None:
    """Of questions in turn, on a file: one thread of 10,000 messages, then a user's 100 threads of 100."""
    turns = [turn for dialogue in dialogues.values() for turn in turns_of(dialogue)]
    questions = [asked["question"] for dialogue in dialogues.values() for asked in dialogue["qa"]]
    for n_threads in (1, 100):
        with tempfile.TemporaryDirectory() as folder, SQLiteStorage(Path(folder) / "chat.db") as storage:
            manager = HistoryManager(storage)
            said = islice(_again_and_again(turns), N_MESSAGES)
            for number in range(n_threads):
                manager.create_thread(thread_id=f"t{number}", user_id="ada")
                manager.add_messages(f"t{number}", list(islice(said, N_MESSAGES // n_threads)))
            with MessageRecall(storage, embeddings=embeddings) as recall:
                recall.catch_up()
                scopes: dict[str, dict[str, Any]] = {
                    "thread": {"thread_id": "t0"},
                    "user": {"user_id": "ada"},
                    "all": {},
                }
                for name, scope in scopes.items():
                    recall.search(questions[0], **scope)
                    asked = questions[:: len(questions) // 60]
                    spent = [_seconds(recall.search, question, **scope) for question in asked]
                    wall, cpu = (median(each) * 1000 for each in zip(*spent, strict=True))
                    print(
                        f"{N_MESSAGES:,} messages in {n_threads} threads, scope {name}: "
                        f"{wall:.2f} ms a search (median), {cpu:.2f} of CPU"
                    )


def _again_and_again(turns: list[Message]) -> Iterator[Message]:
    """Under new ids, and each time some years later."""
    for number in count():
        later = timedelta(days=4000 * number)
        yield from (Message(each.text, each.role, name=each.name, created_at=each.created_at + later) for each in turns)


def _seconds(search: Search, question: str, **scope: Any) -> tuple[float, float]:
    """Passed, and of CPU."""
    started, cpu_before = perf_counter(), process_time()
    search(question, **scope)
    return perf_counter() - started, process_time() - cpu_before


def measured(title: str, searches: Mapping[str, Search], dialogues: Dialogues) -> None:
    spent: list[float] = []
    answers: list[Answer] = []
    for name, dialogue in dialogues.items():
        searches[name](dialogue["qa"][0]["question"], thread_id=name)  # the first one indexes the thread
        answers.extend(answers_of(searches[name], name, dialogue, spent))
    print(f"{title}: {median(spent) * 1000:.2f} ms a search (median), {min(spent) * 1000:.2f} at least")
    report(answers)


def report(answers: list[Answer]) -> None:
    print(
        f"{'':12} {'questions':>9} " + " ".join(f"{f'R@{depth}':>6}" for depth in DEPTHS) + f" {'hit@10':>6} {'MRR':>6}"
    )
    groups = {name: [each for each in answers if each.category == key] for key, name in CATEGORIES.items()}
    for name, group in {**groups, "all": answers}.items():
        if group:
            recalls = " ".join(f"{fmean(each.recall(depth) for each in group):6.1%}" for depth in DEPTHS)
            hit, mrr = fmean(each.hit(10) for each in group), fmean(each.reciprocal() for each in group)
            print(f"{name:12} {len(group):9} {recalls} {hit:6.1%} {mrr:6.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.recall", description="Search dialogues for what answers them.")
    parser.add_argument("--data", type=Path, required=True, help="a folder of dialogues, one JSON file each")
    parser.add_argument("--vectors", action="store_true", help="fuse with the vectors in the folder's minilm.npz")
    given = parser.parse_args()
    paths = sorted(given.data.glob("*.json"))
    if not paths:
        parser.error("the folder holds no .json file")
    dialogues = {path.stem: json.loads(path.read_text("utf-8")) for path in paths}
    for make in (lambda: SQLiteStorage(":memory:"), MemoryStorage):
        storages = stored(make, dialogues)
        name = type(next(iter(storages.values()))).__name__
        plain = {each: HistoryManager(storage).search_messages for each, storage in storages.items()}
        measured(f"{name}, full text alone", plain, dialogues)
        embeddings = embeddings_of(given.data / "minilm.npz", dialogues) if given.vectors else None
        for fused in (False, True) if given.vectors else (False,):
            for weight in (0.0, SPEAKER_WEIGHT):
                searches = {
                    each: MessageRecall(storage, embeddings=embeddings if fused else None, speaker_weight=weight).search
                    for each, storage in storages.items()
                }
                by = "words and vectors" if fused else "words"
                named = "names weighed" if weight else "no names"
                measured(f"{name}, MessageRecall, {by}, {named}", searches, dialogues)
    if given.vectors:
        measured_at_length(dialogues, embeddings_of(given.data / "minilm.npz", dialogues))


if __name__ == "__main__":
    main()
