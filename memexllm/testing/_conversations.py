"""Random conversations with all that the chat API knows, from a seed; they need no third-party package.

A conversation is a list of `ScriptedCall`s: what the caller adds for one call of the model, and what the model answers.
Put end to end they are a valid list of messages. `messages_of` makes them a stored thread.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from memexllm.core.models import CallInfo, Message

Wire = dict[str, Any]

START = datetime(2026, 1, 1, tzinfo=UTC)
_ANY_SERVER = CallInfo(server="https://api.example.com/v1/", model="any")
_PNG = "data:image/png;base64,iVBORw0KGgo="
_TEXTS = (
    "Where is my order?",
    "ça va, Zoë? naïve café",
    "東京の天気は？",  # noqa: RUF001
    "מה שלומך",
    "👩‍👩‍👧 ok 🏳️‍🌈",
    'quotes " and \\ and \n lines \t tabs',
    "\u2028 and \u0000 and \ufffd",
    "<|endoftext|> [INST] ```python\nprint('x')\n```",
    "  spaces around  ",
    "x" * 700,
)
_ODD_VALUES: tuple[Any, ...] = (None, True, 0.1, -0.0, 1e300, 2**70, "", [], {}, [[1], {"a": None}], {"b": 1, "a": 2})


@dataclass(frozen=True)
class ScriptedCall:
    """One call of the model: what the caller adds to the conversation, and the answer."""

    said: list[Wire]
    answer: Wire


class Writer:
    """Writes one conversation. `unknown_fields` adds fields that no API defines, which strict servers refuse."""

    def __init__(self, random: Random, *, unknown_fields: bool = False) -> None:
        self._random = random
        self._unknown_fields = unknown_fields
        self._n_texts = 0

    def conversation(self, n_turns: int) -> list[ScriptedCall]:
        """`n_turns` user requests with the calls they take; the first may bring a block and older messages."""
        calls: list[ScriptedCall] = []
        for turn in range(n_turns):
            said = [self._user() for _ in range(self._one_of((1, 1, 1, 1, 2)))]
            if turn == 0:
                said = [*self._block(), *self._older_messages(), *said]
            elif self._chance(0.1):
                said.insert(self._one_of((0, len(said))), self._instruction())
            elif self._chance(0.1):
                said.insert(0, self._shuffled({"role": "assistant", "content": self._text()}))
            while True:
                answer = self._answer()
                calls.append(ScriptedCall(said, answer))
                said = self._results(answer)
                if not said:
                    break
                if self._chance(0.15):
                    said.append(self._user())
        return calls

    def _block(self) -> list[Wire]:
        return [self._instruction() for _ in range(self._one_of((0, 1, 1, 2)))]

    def _instruction(self) -> Wire:
        role = self._one_of(("system", "developer"))
        return self._with_extras({"role": role, "content": self._text_or_parts()})

    def _older_messages(self) -> list[Wire]:
        """A conversation from elsewhere, which the first call hands over."""
        messages: list[Wire] = []
        for _ in range(self._one_of((0, 0, 0, 1, 3))):
            messages.append(self._user())
            answer = self._answer(spoken=False)
            while results := self._results(answer):
                messages.extend([self._shuffled(answer), *results])
                answer = self._answer(spoken=False)
            messages.append(self._shuffled(answer))
        return messages

    def _user(self) -> Wire:
        message: Wire = {"role": "user", "content": self._user_content()}
        if self._chance(0.15):
            message["name"] = self._one_of(("alice", "Bob_2"))
        return self._with_extras(message)

    def _user_content(self) -> Any:
        if self._chance(0.15):
            return "ok"  # people repeat themselves
        if self._chance(0.7):
            return self._text()
        parts = [self._text_part(), *(self._one_of(self._media())() for _ in range(self._one_of((0, 1, 1, 2))))]
        self._random.shuffle(parts)
        return parts

    def _media(self) -> tuple[Any, ...]:
        return (self._text_part, self._image_part, self._audio_part, self._file_part)

    def _text_part(self) -> Wire:
        return self._with_extras({"type": "text", "text": self._text()})

    def _image_part(self) -> Wire:
        image: Wire = {"url": self._one_of((_PNG, "https://example.com/ü.jpg"))}
        if self._chance(0.5):
            image["detail"] = "low"
        return self._with_extras({"type": "image_url", "image_url": self._shuffled(image)})

    def _audio_part(self) -> Wire:
        return self._with_extras({"type": "input_audio", "input_audio": {"format": "wav", "data": "UklGRg=="}})

    def _file_part(self) -> Wire:
        file = self._one_of(({"file_id": "file-1"}, {"filename": "a.pdf", "file_data": "data:application/pdf;base64,"}))
        return self._with_extras({"type": "file", "file": dict(file)})

    def _text_or_parts(self) -> Any:
        return self._text() if self._chance(0.8) else [self._text_part(), self._text_part()]

    def _answer(self, *, spoken: bool = True) -> Wire:
        kinds = (self._plain_answer, self._plain_answer, self._calling_answer, self._calling_answer, self._old_call)
        rare = (self._refusal, self._spoken_answer) if spoken else (self._refusal,)
        answer: Wire = self._one_of(rare if self._chance(0.1) else kinds)()
        for key, empty in (("refusal", None), ("annotations", []), ("audio", None), ("function_call", None)):
            if key not in answer and self._chance(0.3):
                answer[key] = empty
        if self._unknown_fields and self._chance(0.3):
            answer["reasoning_content"] = self._text()
            answer["x_meta"] = {"b": [1, {"deep": "é"}], "a": 0.5}
        return answer

    def _plain_answer(self) -> Wire:
        return {"role": "assistant", "content": self._one_of(("ok", "", self._text(), self._text(), self._text()))}

    def _refusal(self) -> Wire:
        return {"role": "assistant", "content": None, "refusal": self._text()}

    def _spoken_answer(self) -> Wire:
        expires_at = self._one_of((1, 4_000_000_000))
        audio = {"id": f"audio_{self._number()}", "data": "UklGRg==", "expires_at": expires_at, "transcript": "hello"}
        return {"role": "assistant", "content": None, "audio": audio}

    def _calling_answer(self) -> Wire:
        # Some servers count their call ids from the start in every answer.
        stem = self._one_of(("call_", f"call_{self._number()}_"))
        calls = [self._call(f"{stem}{index}") for index in range(self._one_of((1, 1, 2, 3)))]
        return {"role": "assistant", "content": self._one_of((None, None, "", self._text())), "tool_calls": calls}

    def _call(self, call_id: str) -> Wire:
        if self._chance(0.2):
            call: Wire = {"id": call_id, "type": "custom", "custom": {"name": "run", "input": self._text()}}
        else:
            arguments = json.dumps({"q": self._text()}, ensure_ascii=self._chance(0.5)) if self._chance(0.8) else ""
            call = {"id": call_id, "type": "function", "function": {"name": "look_up", "arguments": arguments}}
        if self._unknown_fields and self._chance(0.3):
            call["extra_content"] = {"signature": "c2ln", "n": [1, 2]}
        return call

    def _old_call(self) -> Wire:
        call = {"name": "look_up", "arguments": json.dumps({"q": self._text()})}
        return {"role": "assistant", "content": None, "function_call": call}

    def _results(self, answer: Wire) -> list[Wire]:
        """What a caller sends back for an answer that calls tools; nothing for any other."""
        if answer.get("function_call"):
            return [
                self._shuffled({"role": "function", "name": "look_up", "content": self._one_of((None, self._text()))})
            ]
        results = [
            self._with_extras({"role": "tool", "tool_call_id": call["id"], "content": self._text_or_parts()})
            for call in answer.get("tool_calls") or ()
        ]
        self._random.shuffle(results)
        return results

    def _text(self) -> str:
        """No two are the same."""
        return f"{self._one_of(_TEXTS)} ({self._number()})"

    def _number(self) -> int:
        self._n_texts += 1
        return self._n_texts

    def _with_extras(self, wire: Wire) -> Wire:
        if self._unknown_fields and self._chance(0.2):
            wire = {**wire, self._one_of(("cache_control", "x_trace")): self._one_of(_ODD_VALUES)}
        return self._shuffled(wire)

    def _shuffled(self, wire: Wire) -> Wire:
        items = list(wire.items())
        if self._chance(0.5):
            self._random.shuffle(items)
        return dict(items)

    def _one_of(self, choices: Sequence[Any]) -> Any:
        return self._random.choice(choices)

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability


def messages_of(calls: Sequence[ScriptedCall], random: Random) -> list[Message]:
    """The stored thread of `calls`, without its block; some are pinned, all have a `metadata["importance"]`."""
    wires = [(wire, wire is call.answer) for call in calls for wire in (*call.said, call.answer)]
    while wires and wires[0][0]["role"] in ("system", "developer"):
        del wires[0]
    messages: list[Message] = []
    moment = START
    for seq, (wire, answered) in enumerate(wires):
        # An exchange takes seconds, the next turn may come days later.
        moment += timedelta(seconds=random.uniform(1, 5))
        if wire["role"] == "user":
            moment += timedelta(minutes=random.choice((0, 1, 30, 5000)))
        messages.append(
            Message(
                wire=wire,
                id=f"m{seq}",
                seq=seq,
                created_at=moment,
                metadata={"importance": round(random.random(), 3)},
                pinned=random.random() < 0.02,
                call=_ANY_SERVER if answered else None,
            )
        )
    return messages
