"""Spoken answers: what is missing of their audio is made, and their ids are good until they expire."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Iterable

from memexllm.testing.server.errors import InvalidRequestError
from memexllm.testing.server.jsontypes import JSONObject, is_object, object_at, string_at

LIFETIME_S = 3600


class SpokenAnswers:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._numbers = itertools.count(1)
        self._expires_at: dict[str, float] = {}

    def complete(self, message: JSONObject) -> JSONObject:
        """The message with `id`, `expires_at`, `data` and `transcript` in its audio, if it has any."""
        audio = message.get("audio")
        if not is_object(audio):
            return message
        transcript = string_at(audio, "transcript")
        usual: JSONObject = {
            "id": f"audio_{next(self._numbers):024d}",
            "expires_at": int(self._clock()) + LIFETIME_S,
            # No sound, and yet different for different words.
            "data": base64.b64encode(transcript.encode("utf-8", "surrogatepass")).decode(),
            "transcript": transcript,
        }
        complete = dict(audio) | {name: value for name, value in usual.items() if name not in audio}
        self._note(complete)
        return message | {"audio": complete}

    def _note(self, audio: JSONObject) -> None:
        expires_at = audio["expires_at"]
        if isinstance(expires_at, int | float):
            self._expires_at[string_at(audio, "id")] = expires_at

    def check(self, messages: Iterable[JSONObject]) -> None:
        """Raises for the id of an answer that has expired. Ids of elsewhere are let pass."""
        for position, message in enumerate(messages):
            audio_id = string_at(object_at(message, "audio"), "id")
            expires_at = self._expires_at.get(audio_id)
            if expires_at is not None and expires_at <= self._clock():
                raise InvalidRequestError(
                    f"Audio with id '{audio_id}' has expired. Send the transcript as content instead.",
                    param=f"messages[{position}].audio.id",
                    code="audio_expired",
                )
