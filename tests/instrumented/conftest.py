"""One server for the folder, and others' instrumentation for one test at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from memexllm.testing.server import OpenAIServer
from tests.instrumented.tracers import TRACERS, Tracer, sdk_as_it_is

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def _running() -> Iterator[OpenAIServer]:
    # Fields are not checked: instructor gives tool messages a name, on a bare client too.
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def server(_running: OpenAIServer) -> OpenAIServer:
    _running.clear()
    return _running


@pytest.fixture(params=TRACERS)
def tracer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracer]:
    """Each of those that patch the SDK, installed; afterwards the SDK is as it was."""
    with sdk_as_it_is():
        yield TRACERS[request.param](monkeypatch)
