"""How often a search finds what answers a question: `python -m benchmarks.recall --data FOLDER`.

The folder holds dialogues in LoCoMo's form: `session_N` (turns with `dia_id`, `speaker`, `text`) with
`session_N_date_time`, and `qa` (a `question`, the turns of its `evidence`, a `category`). Each dialogue becomes a
thread whose turns have a `name`; a session's turns follow one another by a minute. A question searches its dialogue.

Recall@k is the mean share of a question's evidence among the first k hits; hit@k the share of questions with any of it;
MRR the mean of 1 / place of the first. Questions of category 5 (unanswerable) and without evidence are left out.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import fmean
from typing import Any

from memexllm import HistoryManager, MemoryStorage, Message, SQLiteStorage

CATEGORIES = {4: "single-hop", 1: "multi-hop", 2: "temporal", 3: "open-domain"}
DEPTHS = (5, 10, 25)
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
                role,
                turn["text"],
                name=turn["speaker"],
                id=turn["dia_id"],
                created_at=moment + timedelta(minutes=place),
            )
        number += 1


def _moment(text: str) -> datetime:
    return datetime.strptime(text, "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC)


def answers_of(manager: HistoryManager, thread_id: str, dialogue: dict[str, Any]) -> Iterator[Answer]:
    manager.create_thread(thread_id=thread_id)
    turns = list(turns_of(dialogue))
    manager.add_messages(thread_id, turns)
    known = {turn.id for turn in turns}
    for asked in dialogue["qa"]:
        # One string may hold several ids, and an id may be written with leading zeros.
        named = [_TURN.findall(text) for text in asked.get("evidence", ())]
        evidence = {each for ids in named for each in ids} & known
        if asked["category"] not in CATEGORIES or not evidence:
            continue
        hits = manager.search_messages(asked["question"], thread_id=thread_id, limit=max(*DEPTHS, 100))
        places = {hit.message.id: place for place, hit in enumerate(hits, start=1)}
        yield Answer(asked["category"], [places.get(each) for each in sorted(evidence)])


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
    paths = sorted(parser.parse_args().data.glob("*.json"))
    if not paths:
        parser.error("the folder holds no .json file")
    dialogues = {path.stem: json.loads(path.read_text("utf-8")) for path in paths}
    for storage in (SQLiteStorage(":memory:"), MemoryStorage()):
        with HistoryManager(storage) as manager:
            print(type(storage).__name__)
            report([each for name, dialogue in dialogues.items() for each in answers_of(manager, name, dialogue)])


if __name__ == "__main__":
    main()
