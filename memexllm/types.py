"""The 0.1 names of the nouns' types; `Message` and `Thread` themselves are in `memexllm`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memexllm._lazy import lazy_exports

if TYPE_CHECKING:
    from memexllm.core.models import Message, Thread
    from memexllm.core.models import Message as MessageType
    from memexllm.core.models import Thread as ThreadType

__all__ = ["Message", "Thread", "MessageType", "ThreadType"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Message": "memexllm.core.models",
        "Thread": "memexllm.core.models",
        "MessageType": "memexllm.core.models:Message",
        "ThreadType": "memexllm.core.models:Thread",
    },
)
