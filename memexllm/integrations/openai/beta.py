"""`client.beta` with history: the SDK keeps `beta.chat` as another way to `chat`, and here it leads to ours.

Loaded when `client.beta` is looked at: the SDK's beta resources take longer to import than all of ours.
"""

from __future__ import annotations

from openai._compat import cached_property
from openai.resources.beta import AsyncBeta, Beta

from memexllm.integrations.openai.resources import AsyncHistoryChat, HistoryChat


class HistoryBeta(Beta):
    @cached_property
    def chat(self) -> HistoryChat:
        return HistoryChat(self._client)


class AsyncHistoryBeta(AsyncBeta):
    @cached_property
    def chat(self) -> AsyncHistoryChat:
        return AsyncHistoryChat(self._client)
