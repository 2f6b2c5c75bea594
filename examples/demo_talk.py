"""The two processes of the demo: one talks on a thread and is killed, the other goes on with it.

    python examples/demo_talk.py meet chat.db      # says a name, asks for the weather, waits to be killed
    python examples/demo_talk.py recall chat.db    # asks for the name; fails when the answer does not know it

`examples/demo.py` starts them; this is the part an application would write.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from openai import OpenAI, OpenAIError
from terminal import bold, dim

from memexllm import history_of, with_history

if TYPE_CHECKING:
    from openai import Stream
    from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam, ChatCompletionToolParam

    from memexllm.integrations.openai.typed import HistoryOpenAI

THREAD_ID = "ada-1"
NAME = "Ada"
READY = "\0"
"""Printed, on no line of its own, when everything that is to survive has been said."""

MODEL = os.environ.get("OPENAI_MODEL") or "gpt-4o-mini"
WEATHER_TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def meet(client: HistoryOpenAI) -> None:
    ask(client, f"Hi! My name is {NAME}.")
    ask(client, "What is the weather in Lisbon?")


def recall(client: HistoryOpenAI, thread_id: str | None) -> bool:
    """Whether the model still knows the name. All that is sent is the question and the thread's id."""
    question = "What is my name?"
    show("you", question)
    stream = send(client, [{"role": "user", "content": question}], thread_id)
    answer = show_stream(stream)
    if thread_id is not None:
        print(dim(f"  (it passed 1 message; the {history_of(stream).injected} before it came from the thread)"))
    return NAME in answer


def ask(client: HistoryOpenAI, text: str) -> None:
    """One turn: the question, the tools the model calls, its answer."""
    show("you", text)
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": text}]
    while messages:
        show_stream(send(client, messages, THREAD_ID))
        # The stream was recorded while it was read, so its tool calls need not be put together here.
        (answer,) = client.history.get_messages(THREAD_ID, limit=1)
        messages = [result_of(call) for call in answer.tool_calls or ()]


def result_of(call: Any) -> ChatCompletionMessageParam:
    show("model", f"calls {call.function.name}({call.function.arguments})")
    city = json.loads(call.function.arguments).get("city", "nowhere")
    weather = f"{city}: 19 degrees and sunny"
    show("tool", weather)
    return {"role": "tool", "tool_call_id": call.id, "content": weather}


def send(
    client: HistoryOpenAI, messages: list[ChatCompletionMessageParam], thread_id: str | None
) -> Stream[ChatCompletionChunk]:
    return client.chat.completions.create(
        model=MODEL,
        messages=messages,
        tools=[WEATHER_TOOL],
        stream=True,
        stream_options={"include_usage": True},
        thread_id=thread_id,
    )


def show(speaker: str, text: str) -> None:
    print(f"  {bold(speaker.ljust(5))}  {text}", flush=True)


def show_stream(stream: Stream[ChatCompletionChunk]) -> str:
    """Print the text as it comes and return it."""
    pieces: list[str] = []
    for chunk in stream:
        piece = chunk.choices[0].delta.content if chunk.choices else None
        if piece:
            if not pieces:
                print(f"  {bold('model')}  ", end="")
            pieces.append(piece)
            print(piece.replace("\n", "\n         "), end="", flush=True)
    if pieces:
        print(flush=True)
    return "".join(pieces)


def main() -> int:
    parser = argparse.ArgumentParser(description="One process of the demo.")
    parser.add_argument("part", choices=["meet", "recall"])
    parser.add_argument("storage", help="the SQLite file")
    parser.add_argument("--without-memory", action="store_true", help="recall: name no thread")
    options = parser.parse_args()
    client = with_history(OpenAI(), storage=options.storage)
    try:
        if options.part == "recall":
            return 0 if recall(client, None if options.without_memory else THREAD_ID) else 1
        meet(client)
    except OpenAIError as error:
        print(f"the model could not be asked: {error}", file=sys.stderr)
        return 2
    print(READY, end="", flush=True)
    sys.stdin.read()  # until killed, or until whoever was to do that is gone
    return 3


if __name__ == "__main__":
    sys.exit(main())
