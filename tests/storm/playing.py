"""Conversations of many seeds, one after another against one strict server."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from memexllm.integrations.openai.merge import RepeatedDivergenceWarning
from memexllm.testing import OpenAIServer
from tests.openai.talking import async_sdk_client, sdk_client
from tests.storm.brain import Brain
from tests.storm.conversation import Conversation

N_STEPS = 8


def play(seeds: Iterable[int], folder: Path, n_steps: int = N_STEPS) -> Counter[str]:
    """What was done; what fails names its seed."""
    with warnings.catch_warnings():
        # Two edits of the same question look like examples that are sent with every call.
        warnings.simplefilter("ignore", RepeatedDivergenceWarning)
        return asyncio.run(_play(seeds, folder, n_steps))


async def _play(seeds: Iterable[int], folder: Path, n_steps: int) -> Counter[str]:
    brain = Brain()
    done: Counter[str] = Counter()
    with OpenAIServer(brain.reply, strict_fields=True) as server, sdk_client(server) as original:
        async with async_sdk_client(server) as async_original:
            for seed in seeds:
                conversation = Conversation(server, brain, (original, async_original), seed, folder)
                try:
                    await conversation.play(n_steps)
                except BaseException as error:
                    error.add_note(f"conversation {seed}: python -m tests.storm --first {seed} --conversations 1")
                    error.add_note("\n".join(conversation.log))
                    raise
                done += conversation.done
                done["conversations"] += 1
    gc.collect()
    return done
