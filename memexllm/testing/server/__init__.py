"""A local server that speaks the OpenAI chat completions API, for tests, demos and offline work.

`with OpenAIServer() as server: OpenAI(base_url=server.base_url, api_key="local")`
"""

from memexllm.testing.server.brain import reply_from_history
from memexllm.testing.server.outcomes import (
    Answer,
    Drop,
    Gate,
    Hold,
    Outcome,
    Reply,
    ServerError,
    StreamError,
    Waitable,
)
from memexllm.testing.server.received import ChatRequest, ReceivedRequest
from memexllm.testing.server.server import OpenAIServer
from memexllm.testing.server.usage import Encode

__all__ = [
    "OpenAIServer",
    "ReceivedRequest",
    "ChatRequest",
    "Outcome",
    "Answer",
    "ServerError",
    "Drop",
    "StreamError",
    "Hold",
    "Gate",
    "Waitable",
    "Reply",
    "Encode",
    "reply_from_history",
]
