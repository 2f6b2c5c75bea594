"""Embeddings of any server that speaks the OpenAI API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from memexllm._extras import required
from memexllm.core.errors import ConfigurationError
from memexllm.core.flow import Flow, arun, call, run
from memexllm.core.refusals import checked_positive
from memexllm.core.tokens import TextCounter
from memexllm.memory.embeddings.answers import in_order, refused_for_length, tokens_of
from memexllm.memory.embeddings.base import EmbeddingProvider
from memexllm.memory.embeddings.batching import Limits, batches, checked_list, known_limits
from memexllm.memory.embeddings.usage import EmbeddingUsage, UsageMeter
from memexllm.memory.embeddings.vectors import checked_vectors, numpy_for

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from openai import AsyncOpenAI, OpenAI

# https://platform.openai.com/docs/guides/embeddings
_DIMENSIONS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}
_PROBE = "dimensions"


class _OpenAIProvider(EmbeddingProvider):
    """What the two providers share: all but who waits."""

    _client_class: str
    _other_provider: str

    def __init__(
        self,
        model: str = "text-embedding-3-small",
        *,
        client: Any = None,
        dimensions: int | None = None,
        encoding_format: Literal["base64", "float"] = "base64",
        max_batch_texts: int | None = None,
        max_batch_tokens: int | None = None,
        max_text_tokens: int | None = None,
        count_tokens: TextCounter | None = None,
    ) -> None:
        name = type(self).__name__
        given = {
            "dimensions": dimensions,
            "max_batch_texts": max_batch_texts,
            "max_batch_tokens": max_batch_tokens,
            "max_text_tokens": max_text_tokens,
        }
        for parameter, value in given.items():
            if value is not None:
                checked_positive(value, parameter)
        if encoding_format not in ("base64", "float"):
            raise ConfigurationError(f"encoding_format must be 'base64' or 'float'; got {encoding_format!r:.20}")
        numpy_for(name)
        self.model = model
        self.owns_client = client is None
        self.client = self._checked_client(client)
        self._asked_dimensions = dimensions
        self._dimensions = dimensions or _DIMENSIONS.get(model)
        self._encoding_format = encoding_format
        known = known_limits(model)
        self._limits = Limits(
            texts=max_batch_texts or known.texts,
            tokens=max_batch_tokens or known.tokens,
            tokens_of_a_text=max_text_tokens or known.tokens_of_a_text,
            count=count_tokens or known.count,
            byte_level=count_tokens is None,
        )
        if max_text_tokens and self._limits.count is None:
            # Bytes would refuse texts that fit; the newest vocabulary is near enough to tell what is far too long.
            raise ConfigurationError(
                f"max_text_tokens needs count_tokens: how model {model!r} counts tokens is not known; "
                "pass a function from text to a number"
            )
        self._meter = UsageMeter()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r})"

    @property
    def usage(self) -> EmbeddingUsage:
        """What was asked for and answered so far, retries of the SDK not counted."""
        return self._meter.total

    def _checked_client(self, client: Any) -> Any:
        name = type(self).__name__
        openai = required("openai", extra="openai", by=name)
        if client is None:
            return getattr(openai, self._client_class)()
        other = "OpenAI" if self._client_class == "AsyncOpenAI" else "AsyncOpenAI"
        if isinstance(client, getattr(openai, other)):
            raise ConfigurationError(
                f"{name} takes an {self._client_class} client; with {other} use {self._other_provider}"
            )
        if not callable(getattr(getattr(client, "embeddings", None), "create", None)):
            raise ConfigurationError(f"{name} needs a client with embeddings.create; got {type(client).__name__}")
        return client

    def _embedded(self, texts: Sequence[str]) -> Flow[NDArray[np.float32]]:
        texts = checked_list(texts)
        found = [checked_vectors([], 0, self._dimensions, repr(self))]
        for positions in (yield from call(batches, texts, self._limits)):
            batch = [texts[position] for position in positions]
            values = yield from self._answered(batch)
            found.append(checked_vectors(values, len(batch), self._dimensions, repr(self)))
            self._dimensions = found[-1].shape[1]
        return numpy_for(repr(self)).concatenate(found[1:] or found)  # type: ignore[no-any-return]  # NumPy comes as a module

    def _answered(self, batch: list[str]) -> Flow[list[Any]]:
        """One request's embeddings, in the order of its texts."""
        params: dict[str, Any] = {"model": self.model, "input": batch, "encoding_format": self._encoding_format}
        if self._asked_dimensions is not None:
            params["dimensions"] = self._asked_dimensions
        try:
            response = yield from call(self._create, params)
        except required("openai", extra="openai", by="embeddings").APIStatusError as error:
            refusal = refused_for_length(error, repr(self))
            if refusal is None:
                raise
            raise refusal from error
        self._meter.add(texts=len(batch), tokens=tokens_of(response))
        return in_order(response, len(batch), repr(self))

    def _create(self, params: dict[str, Any]) -> Any:
        return self.client.embeddings.create(**params)


class OpenAIEmbeddings(_OpenAIProvider):
    """Vectors of `/v1/embeddings`: OpenAI's, or those of any server that speaks its API.

    `client` is your `OpenAI(...)` and stays yours; without one it is made from the environment and closed by `close()`.
    What it raises passes through unchanged, after its own retries. `dimensions` is sent with each request, for models
    that shorten their vectors; without it they are the model's, learnt from the first answer when the model is not
    OpenAI's. Requests hold at most `max_batch_texts` texts and `max_batch_tokens` tokens (OpenAI's limits: 2,048 and
    300,000). A text of more than `max_text_tokens` is a `TextTooLongError` before any request; for models that are not
    OpenAI's it takes `count_tokens` to know, else the server's own refusal is raised so. An answer that is short,
    doubled, of another length or not finite is an `EmbeddingError`, and nothing of the batch is returned.
    """

    client: OpenAI
    _client_class = "OpenAI"
    _other_provider = "AsyncOpenAIEmbeddings"

    @property
    def dimensions(self) -> int:
        """Of a model that is not known one short text is embedded to learn it, once."""
        return self._dimensions or len(self.embed(_PROBE))

    def embed(self, text: str) -> NDArray[np.float32]:
        vector: NDArray[np.float32] = self.embed_batch([text])[0]
        return vector

    def embed_batch(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """In as few requests as the limits allow, one after the other; no texts make no request."""
        return run(self._embedded(texts))

    def close(self) -> None:
        """Closes the client if it was made here."""
        if self.owns_client:
            self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncOpenAIEmbeddings(_OpenAIProvider):
    """Async `OpenAIEmbeddings`, for an `AsyncOpenAI(...)`."""

    client: AsyncOpenAI
    _client_class = "AsyncOpenAI"
    _other_provider = "OpenAIEmbeddings"

    @property
    def dimensions(self) -> int:
        """Of a model that is not known `ConfigurationError`, until the first text was embedded."""
        if self._dimensions is None:
            raise ConfigurationError(
                f"{self!r} knows its dimensions after the first text: await embed() first, or pass dimensions= "
                "if the server takes it"
            )
        return self._dimensions

    async def embed(self, text: str) -> NDArray[np.float32]:
        vector: NDArray[np.float32] = (await self.embed_batch([text]))[0]
        return vector

    async def embed_batch(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Async `OpenAIEmbeddings.embed_batch`."""
        return await arun(self._embedded(texts))

    async def close(self) -> None:
        """Async `OpenAIEmbeddings.close`."""
        if self.owns_client:
            await self.client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
