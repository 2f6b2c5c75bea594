"""What traces calls of the SDK, each writing its spans to memory: langfuse, logfire, and OpenTelemetry's own."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from openai.resources.chat.completions import AsyncCompletions, Completions
from openai.resources.responses import AsyncResponses, Responses

ALL_ARE_NEEDED = "MEMEXLLM_TEST_INSTRUMENTED"
PATCHED: list[tuple[Any, str]] = [
    *(
        (cls, name)
        for cls in (Completions, AsyncCompletions, Responses, AsyncResponses)
        for name in ("create", "parse")
    ),
    *(
        (cls, name)
        for cls in (openai.OpenAI, openai.AsyncOpenAI)
        for name in ("request", "_original_request_method", "_is_instrumented_by_logfire")
    ),
    (openai.Stream, "__iter__"),
    (openai.AsyncStream, "__aiter__"),
]


def needed(module: str) -> Any:
    """The module; without it the test is skipped by name, and fails where all have to be there (scripts/compat)."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if os.environ.get(ALL_ARE_NEEDED) or not f"{module}.".startswith(f"{error.name}."):
            raise
        pytest.skip(f"{error.name} is not installed; scripts/compat --instrumented runs this test")


@contextmanager
def sdk_as_it_is() -> Iterator[None]:
    """What is patched into the SDK's classes meanwhile is taken out again."""
    before = [(cls, name, cls.__dict__.get(name)) for cls, name in PATCHED]
    try:
        yield
    finally:
        for cls, name, value in before:
            if value is not None:
                setattr(cls, name, value)
            elif name in cls.__dict__:
                delattr(cls, name)


@dataclass
class Tracer:
    """`spans` are the finished ones, as text."""

    name: str
    spans: Callable[[], list[str]]


def langfuse(monkeypatch: pytest.MonkeyPatch) -> Tracer:
    patcher, client, exporter = _langfuse()
    exporter.clear()
    monkeypatch.setattr(patcher, "_openai_stream_iter_hook_installed", False)
    patcher.register_tracing()
    patcher._install_openai_stream_iteration_hooks()

    def spans() -> list[str]:
        client.flush()
        return _texts(exporter)

    return Tracer("langfuse", spans)


@functools.cache
def _langfuse() -> tuple[Any, Any, Any]:
    """Its settings are those of the process, and so is what importing it patches."""
    module = needed("langfuse")
    with sdk_as_it_is():
        patcher = needed("langfuse.openai")
    exporter = needed("opentelemetry.sdk.trace.export.in_memory_span_exporter").InMemorySpanExporter()
    provider = needed("opentelemetry.sdk.trace").TracerProvider()
    client = module.Langfuse(
        public_key="pk-local", secret_key="sk-local", tracer_provider=provider, span_exporter=exporter
    )
    return patcher, client, exporter


def logfire(_: pytest.MonkeyPatch) -> Tracer:
    own, exporter = logfire_itself()
    exporter.clear()
    own.instrument_openai()
    return Tracer("logfire", lambda: _texts(exporter))


@functools.cache
def logfire_itself() -> tuple[Any, Any]:
    """Configured for itself, and the exporter of its spans."""
    module = needed("logfire")
    processor, exporter = _memory()
    own = module.configure(
        local=True, send_to_logfire=False, console=False, metrics=False, additional_span_processors=[processor]
    )
    return own, exporter


def opentelemetry(monkeypatch: pytest.MonkeyPatch) -> Tracer:
    # Else it traces neither what was asked nor what was answered.
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental")
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "span_only")
    module = needed("opentelemetry.instrumentation.openai_v2")
    stability = needed("opentelemetry.instrumentation._semconv")._OpenTelemetrySemanticConventionStability
    monkeypatch.setattr(stability, "_initialized", False)  # else it was read before, once for the process
    processor, exporter = _memory()
    provider = needed("opentelemetry.sdk.trace").TracerProvider()
    provider.add_span_processor(processor)
    instrumentor = module.OpenAIInstrumentor()  # one for the process
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()
    instrumentor.instrument(tracer_provider=provider)
    return Tracer("opentelemetry", lambda: _texts(exporter))


TRACERS = {"langfuse": langfuse, "logfire": logfire, "opentelemetry": opentelemetry}


def _memory() -> tuple[Any, Any]:
    """A processor, and the exporter in memory that it writes to."""
    exporter = needed("opentelemetry.sdk.trace.export.in_memory_span_exporter").InMemorySpanExporter()
    return needed("opentelemetry.sdk.trace.export").SimpleSpanProcessor(exporter), exporter


def _texts(exporter: Any) -> list[str]:
    return [f"{span.name} {dict(span.attributes)}" for span in exporter.get_finished_spans()]
