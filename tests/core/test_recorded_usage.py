"""What is counted against what OpenAI's API reported for the same requests.

`tests/golden/recorded_usage.json` holds requests that public repositories recorded, each with its source, and the
`usage` of their answers: no number in it was counted here.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from memexllm.core.calibration import calibration_of, recalibrated
from memexllm.core.tokens import TokenCounter, byte_bound, tools_bound

GOLDEN = Path(__file__).parent.parent / "golden" / "recorded_usage.json"


@dataclass(frozen=True)
class Recording:
    """The calls of one conversation: for each all its messages, and the prompt tokens that were reported."""

    name: str
    kind: str
    model: str
    source: dict[str, str]
    tools: list[dict[str, Any]]
    calls: list[tuple[list[dict[str, Any]], int]]

    def counted(self) -> list[int]:
        counter = TokenCounter(self.model)
        return [counter.count_request(messages, self.tools) for messages, _ in self.calls]

    def reported(self) -> list[int]:
        return [reported for _, reported in self.calls]

    def errors(self) -> list[int]:
        return [counted - reported for counted, reported in zip(self.counted(), self.reported(), strict=True)]


def png(width: int, height: int) -> str:
    """The beginning of a picture of that size."""
    head = struct.pack(">I4sIIBBBBB", 13, b"IHDR", width, height, 8, 2, 0, 0, 0)
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + head).decode()


def with_pictures(message: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(message["content"], list):
        return message
    parts = [dict(part) for part in message["content"]]
    for part in parts:
        if size := part.get("image_url", {}).get("size"):
            part["image_url"] = {**part["image_url"], "url": png(*size)}
    return {**message, "content": parts}


def recordings() -> Iterator[Recording]:
    found = json.loads(GOLDEN.read_text(encoding="utf-8"))["recordings"]
    tools_of = {each["name"]: each.get("tools", []) for each in found}
    for each in found:
        tools = each.get("tools", [])
        calls: list[tuple[list[dict[str, Any]], int]] = []
        messages: list[dict[str, Any]] = []
        for call in each["calls"]:
            messages = [*messages, *map(with_pictures, call["added"])]
            calls.append((messages, call["reported"]))
        shared = tools_of[tools["as in"]] if isinstance(tools, dict) else tools
        yield Recording(each["name"], each["kind"], each["model"], each["source"], shared, calls)


RECORDINGS = list(recordings())
CONVERSATIONS = [each for each in RECORDINGS if len(each.calls) > 1 and each.kind != "remote image"]


def of_kind(kind: str) -> pytest.MarkDecorator:
    chosen = [each for each in RECORDINGS if each.kind == kind]
    return pytest.mark.parametrize("recording", chosen, ids=lambda each: each.name)


def test_the_recordings_name_their_sources_and_are_of_many_kinds() -> None:
    for each in RECORDINGS:
        assert each.source["licence"] in ("MIT", "Apache-2.0")
        assert each.source["repository"]
        assert each.source["path"]
        assert len(each.source["commit"]) == 40
    for kind, least in (("text", 12), ("tools", 40), ("image", 12)):
        assert sum(len(each.calls) for each in RECORDINGS if each.kind == kind) >= least
    assert len({json.dumps(each.tools) for each in RECORDINGS}) >= 30
    assert len(CONVERSATIONS) >= 20
    assert len({each.model for each in RECORDINGS}) >= 10


@of_kind("text")
def test_text_costs_what_was_reported(recording: Recording) -> None:
    assert recording.counted() == recording.reported()


# Schemas, calls and results are exact but for what joins with its neighbours in the request: a token here and there,
# three in the recording that is furthest off.
@of_kind("tools")
def test_tools_calls_and_results_cost_what_was_reported_up_to_3_tokens(recording: Recording) -> None:
    assert max(map(abs, recording.errors())) <= 3


@of_kind("image")
def test_images_cost_what_was_reported_up_to_1_token(recording: Recording) -> None:
    assert max(map(abs, recording.errors())) <= 1


@of_kind("remote image")
def test_an_image_of_unknown_size_is_never_counted_too_low(recording: Recording) -> None:
    assert min(recording.errors()) >= 0
    assert recording.errors()[-1] > 0


# The choice of a tool is a line of its own in the request. It is no part of a thread, and not counted.
@of_kind("tools, none to be called")
def test_forbidding_calls_costs_1_token_more_than_is_counted(recording: Recording) -> None:
    assert recording.errors() == [-1]


@of_kind("tools, one forced")
def test_forcing_a_tool_costs_its_name_and_7_tokens_more_than_is_counted(recording: Recording) -> None:
    name = recording.tools[0]["function"]["name"]
    assert recording.errors() == [-7 - TokenCounter(recording.model).count_text(name)]


# `functions` of 2023 were written with indentation, and never on one line.
@of_kind("legacy")
def test_functions_of_the_first_form_cost_what_was_reported_up_to_4_tokens(recording: Recording) -> None:
    assert max(map(abs, recording.errors())) <= 4


# Responses writes schemas in a form of its own, which is not known; the calibration takes what is left.
@of_kind("responses tools")
def test_tools_of_responses_cost_what_was_reported_up_to_8_tokens(recording: Recording) -> None:
    assert max(map(abs, recording.errors())) <= 8


def test_nearly_all_requests_are_counted_to_the_token() -> None:
    usual = [each for each in RECORDINGS if each.kind in ("text", "tools", "image")]
    errors = [abs(error) for each in usual for error in each.errors()]
    relative = [abs(e) / n for each in usual for e, n in zip(each.errors(), each.reported(), strict=True)]
    assert errors.count(0) >= 0.8 * len(errors)
    assert sum(relative) / len(relative) <= 0.001
    assert max(relative) <= 0.015


@pytest.mark.parametrize("recording", CONVERSATIONS, ids=lambda each: each.name)
def test_after_a_call_the_next_is_estimated_within_2_percent_of_what_is_reported(recording: Recording) -> None:
    state: dict[str, Any] = {}
    for n, (counted, reported) in enumerate(zip(recording.counted(), recording.reported(), strict=True)):
        if n:
            estimate = calibration_of(state, recording.model).estimate(counted)
            assert abs(estimate - reported) <= 0.02 * reported
        state |= recalibrated(state, recording.model, counted, reported)


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda each: each.name)
def test_no_bound_is_lower_than_what_is_counted(recording: Recording) -> None:
    counter = TokenCounter(recording.model)
    assert tools_bound(recording.tools) >= counter.count_tools(recording.tools)
    for message in recording.calls[-1][0]:
        assert byte_bound(message, recording.model) >= counter.count_message(message)
