"""The server: it keeps what it received, judges it and asks for an answer."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self
from urllib.parse import unquote

from memexllm.testing.server.body_rules import check_chat_body, check_headers
from memexllm.testing.server.brain import reply_from_history
from memexllm.testing.server.chat import ChatCompletions
from memexllm.testing.server.delivery import Delivery, error_delivery, json_delivery
from memexllm.testing.server.embeddings import Embeddings, checked_outcomes
from memexllm.testing.server.errors import InvalidRequestError
from memexllm.testing.server.item_store import ItemStore
from memexllm.testing.server.jsontypes import JSONObject, is_object
from memexllm.testing.server.listener import Listener, OnStatus
from memexllm.testing.server.outcomes import Answer, EmbeddingOutcome, Reply, ServerError
from memexllm.testing.server.output_items import ItemIds
from memexllm.testing.server.reasoning_rules import ReasoningDialect
from memexllm.testing.server.received import ChatRequest, EmbeddingRequest, ReceivedRequest, ResponsesRequest
from memexllm.testing.server.responses import Responses
from memexllm.testing.server.responses_rules import checked_request
from memexllm.testing.server.stored import RESPONSES_PATH, StoredThings
from memexllm.testing.server.usage import Encode, TokenMeter
from memexllm.testing.server.wire import WireRequest

_BASE_PATH = "/v1"
# The second is what an Azure client asks for when `origin` is its endpoint.
_CHAT_PATH = re.compile(r"/v1/chat/completions|/openai/(?:v1|deployments/[^/]+)/chat/completions")
_EMBEDDINGS_PATH = re.compile(r"/v1/embeddings|/openai/(?:v1|deployments/[^/]+)/embeddings")
_MODELS_PATH = re.compile(r"/v1/models(?:/(.+))?")


class OpenAIServer:
    """A real HTTP server on loopback that answers as the OpenAI API does; any model name is accepted.

    Requests are judged first: an invalid one gets its 400 and uses up nothing of the plan. A valid one gets
    the next planned outcome, or else that of `reply`, which by default answers from the messages it received.
    `strict_fields` refuses unknown fields in messages, `reasoning` says what becomes of reasoning fields there
    (`ReasoningDialect`), `encode` makes the token counts of `usage` real ones, `models` is what `/v1/models`
    lists. With `record=False` no request is kept, for a server that runs long.
    A `reply` that raises ends its connection without an answer, the traceback on stderr.

    Responses are stored unless they say `store=False`, and can be fetched, deleted and continued
    (`previous_response_id`, `conversation`). Models named like those that reason put a reasoning item first.

    Embeddings are lexical: texts are near that share words. They have the dimensions of OpenAI's models, or else 384.
    """

    def __init__(
        self,
        reply: Callable[[ChatRequest], Reply] = reply_from_history,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        strict_fields: bool = False,
        reasoning: ReasoningDialect = "ignore",
        encode: Encode | None = None,
        clock: Callable[[], float] = time.time,
        models: Sequence[str] = ("gpt-4o", "gpt-4o-mini"),
        record: bool = True,
    ) -> None:
        self._address = (host, port)
        self._strict_fields = strict_fields
        self._clock = clock
        self._models = tuple(models)
        self._record = record
        self._meter = TokenMeter(encode)
        self._reasoning: ReasoningDialect = reasoning
        self._chat = ChatCompletions(reply, self._meter, clock, thinks=reasoning == "require")
        self._store = ItemStore()
        ids = ItemIds()
        self._responses = Responses(reply, self._meter, clock, self._store, ids)
        self._stored = StoredThings(self._store, ids, clock)
        self._embeddings = Embeddings(self._meter)
        self._plan: deque[Reply] = deque()
        self._requests: list[ReceivedRequest] = []
        self._request_numbers = itertools.count(1)
        self._listener: Listener | None = None

    @property
    def origin(self) -> str:
        """`http://host:port`; an Azure client's `azure_endpoint`."""
        if self._listener is None:
            raise RuntimeError("The server is not running; use `with OpenAIServer() as server:` or start()")
        host, port = self._listener.address
        return f"http://{host}:{port}"

    @property
    def base_url(self) -> str:
        """What a client is given: `OpenAI(base_url=server.base_url, api_key="local")`."""
        return self.origin + _BASE_PATH

    @property
    def requests(self) -> list[ReceivedRequest]:
        """All requests in the order they came, refused ones included."""
        return list(self._requests)

    @property
    def chat_requests(self) -> list[ChatRequest]:
        return [
            ChatRequest(request.body, request.headers)
            for request in self._requests
            if request.method == "POST" and _is(_CHAT_PATH, request.path)
        ]

    @property
    def last_messages(self) -> list[JSONObject]:
        """The messages of the newest chat request; `IndexError` before the first."""
        return self.chat_requests[-1].messages

    @property
    def responses_requests(self) -> list[ResponsesRequest]:
        """As they came; what they continue is not in them."""
        return [
            ResponsesRequest(request.body, request.headers)
            for request in self._requests
            if request.method == "POST" and _is(RESPONSES_PATH, request.path)
        ]

    @property
    def last_items(self) -> list[JSONObject]:
        """The input items of the newest Responses request; `IndexError` before the first."""
        return self.responses_requests[-1].items

    @property
    def embedding_requests(self) -> list[EmbeddingRequest]:
        return [
            EmbeddingRequest(request.body, request.headers)
            for request in self._requests
            if request.method == "POST" and _is(_EMBEDDINGS_PATH, request.path)
        ]

    def plan(self, *outcomes: Reply) -> None:
        """Queues what happens to the next valid requests of either API, one outcome each; a retry is a request too."""
        self._plan.extend(outcomes)

    def plan_embeddings(self, *outcomes: EmbeddingOutcome) -> None:
        """As `plan`, for requests for embeddings, which use up nothing of the other plan."""
        self._embeddings.plan.extend(checked_outcomes(outcomes))

    def answer(
        self,
        message: str | Mapping[str, Any] = "",
        *,
        finish_reason: str | None = None,
        usage: Mapping[str, Any] | None = None,
        alternatives: Sequence[str | Mapping[str, Any]] = (),
        chunks: Sequence[Mapping[str, Any]] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Plans one `Answer`."""
        self.plan(
            Answer(
                message,
                finish_reason=finish_reason,
                usage=usage,
                alternatives=alternatives,
                chunks=chunks,
                extra=extra or {},
            )
        )

    def clear(self) -> None:
        """Forgets the requests, the plan, the prompt cache and stored responses; ids go on counting."""
        self._requests.clear()
        self._plan.clear()
        self._embeddings.plan.clear()
        self._meter.clear()
        self._store.clear()

    def start(self) -> Self:
        """Begins to serve, for code without a `with` block; `close()` ends it."""
        if self._listener is not None:
            raise RuntimeError(f"The server is running already, at {self.base_url}")
        self._listener = Listener(*self._address, self._respond)
        return self

    def close(self) -> None:
        """Ends all connections, those held at a gate too; a second call does nothing."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _respond(self, request: WireRequest) -> tuple[Delivery, OnStatus]:
        body = _json_object(request.raw)
        received = ReceivedRequest(request.method, request.path, request.headers, body or {}, request.raw)
        if self._record:
            self._requests.append(received)

        def record_status(status: int) -> None:
            received.status = status

        delivery = self._delivery(request, body)
        headers = {"x-request-id": f"req_{next(self._request_numbers):024d}", **delivery.headers}
        return replace(delivery, headers=headers), record_status

    def _delivery(self, request: WireRequest, body: JSONObject | None) -> Delivery:
        try:
            check_headers(request.headers)
            if request.method == "POST" and _is(_CHAT_PATH, request.path):
                return self._chat_delivery(request, body)
            if request.method == "POST" and _is(RESPONSES_PATH, request.path):
                checked = checked_request(_given(body, "model and input"), request.headers, self._store)
                return self._responses.delivery(checked, self._next_planned())
            if request.method == "POST" and _is(_EMBEDDINGS_PATH, request.path):
                given = _given(body, "model and input")
                return self._embeddings.delivery(EmbeddingRequest(given, request.headers))
            stored = self._stored.delivery(request.method, request.path.partition("?")[0], body)
            if stored is not None:
                return stored
        except InvalidRequestError as error:
            return error_delivery(error.as_outcome())
        if request.method == "GET" and (asked := _MODELS_PATH.fullmatch(request.path.partition("?")[0])):
            return self._models_delivery(asked[1])
        return error_delivery(ServerError(404, f"Invalid URL ({request.method} {request.path})", code="unknown_url"))

    def _chat_delivery(self, request: WireRequest, body: JSONObject | None) -> Delivery:
        body = _given(body, "model and messages")
        check_chat_body(body, strict_fields=self._strict_fields, reasoning=self._reasoning)
        chat = ChatRequest(body, request.headers)
        self._chat.check(chat)
        return self._chat.delivery(chat, self._next_planned())

    def _next_planned(self) -> Reply | None:
        try:
            return self._plan.popleft()
        except IndexError:
            return None

    def _models_delivery(self, name: str | None) -> Delivery:
        if name is not None:
            return json_delivery(self._model_json(unquote(name)))
        return json_delivery({"object": "list", "data": [self._model_json(name) for name in self._models]})

    def _model_json(self, name: str) -> JSONObject:
        return {"id": name, "object": "model", "created": int(self._clock()), "owned_by": "memexllm"}


def _is(pattern: re.Pattern[str], path: str) -> bool:
    return pattern.fullmatch(path.partition("?")[0]) is not None


def _given(body: JSONObject | None, expected: str) -> JSONObject:
    if body is None:
        raise InvalidRequestError(f"We could not parse the JSON body of your request. Send an object with {expected}.")
    return body


def _json_object(raw: bytes) -> JSONObject | None:
    try:
        value = json.loads(raw)
    except ValueError:
        return None
    return value if is_object(value) else None
