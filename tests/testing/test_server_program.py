"""`python -m memexllm.testing.server`."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai import OpenAI

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def program(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running program and the line it printed."""
    command = [sys.executable, "-W", "error", "-m", "memexllm.testing.server", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_its_url_serves_and_ends_cleanly_on_a_signal(number: signal.Signals) -> None:
    with program() as (process, base_url):
        with OpenAI(base_url=base_url, api_key="local") as client:
            client.models.list()
            process.send_signal(number)
            printed, complaints = process.communicate(timeout=10)
        assert (process.returncode, printed, complaints) == (0, "", "")


def test_strict_fields_is_an_option() -> None:
    message: Any = {"role": "user", "content": "x", "x": 1}
    with (
        program("--strict-fields", "--host", "127.0.0.1", "--port", "0") as (_, base_url),
        OpenAI(base_url=base_url, api_key="local") as client,
        pytest.raises(openai.BadRequestError, match="Unrecognized field"),
    ):
        client.chat.completions.create(model="any", messages=[message])


def test_the_dialect_of_reasoning_is_an_option() -> None:
    message: Any = {"role": "assistant", "content": "x", "reasoning_content": "x"}
    with (
        program("--reasoning", "reject") as (_, base_url),
        OpenAI(base_url=base_url, api_key="local") as client,
        pytest.raises(openai.BadRequestError, match="reasoning_content"),
    ):
        client.chat.completions.create(model="any", messages=[message])
