"""Calls that would be stored as something else than what was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from memexllm.core.errors import ConfigurationError
from tests.openai.talking import Talk, said, user

if TYPE_CHECKING:
    from memexllm.testing.server import OpenAIServer


def test_messages_in_extra_body_do_not_replace_the_thread(server: OpenAIServer, talk: Talk) -> None:
    with pytest.raises(ConfigurationError, match="extra_body"):
        talk.say(user("one"), extra_body={"messages": [user("other")]})
    assert server.requests == []
    talk.say(user("one"), thread_id=None, extra_body={"messages": [user("other")]})
    assert said(server) == ["other"]
