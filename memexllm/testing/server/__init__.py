"""A local server for tests, demos and offline work: it speaks the OpenAI API (chat completions, responses, embeddings).

`with OpenAIServer() as server: OpenAI(base_url=server.base_url, api_key="local")`
"""

from memexllm.testing.server.brain import reply_from_history
from memexllm.testing.server.outcomes import (
    Answer,
    Drop,
    EmbeddingOutcome,
    Failed,
    Gate,
    Hold,
    Outcome,
    Reply,
    ServerError,
    Slow,
    StreamError,
    Turnstile,
    Vectors,
    Waitable,
)
from memexllm.testing.server.reasoning_rules import ReasoningDialect
from memexllm.testing.server.received import ChatRequest, EmbeddingRequest, ReceivedRequest, ResponsesRequest
from memexllm.testing.server.server import OpenAIServer
from memexllm.testing.server.usage import Encode

__all__ = [
    "OpenAIServer",
    "ReceivedRequest",
    "ChatRequest",
    "ResponsesRequest",
    "EmbeddingRequest",
    "Outcome",
    "Answer",
    "ServerError",
    "Drop",
    "StreamError",
    "Failed",
    "Hold",
    "Slow",
    "Gate",
    "Turnstile",
    "Waitable",
    "Reply",
    "Vectors",
    "EmbeddingOutcome",
    "ReasoningDialect",
    "Encode",
    "reply_from_history",
]
