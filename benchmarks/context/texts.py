"""Text of as many tokens as asked for: each word is one of `o200k_base`, at the beginning of a text and within it."""

from __future__ import annotations

import random

_WORDS = (
    "about after again air all also answer any around ask back before book both boy call change city close come could "
    "country day different do earth end even every eye face family far father few find first follow food form found "
    "friend from girl give good great group hand hard head hear help here high home house idea keep kind land large "
    "last late learn left letter life light line list live long make man mean money month more mother "
    "move music name near need never new next night number often old once open order other page paper part "
    "people place plan play point question read real right river room run same school sea second see set side small "
    "song sound stand start state still stop story study talk teach thing think time tree turn under use "
    "very voice walk watch water way week white wind word work world write year young"
)
WORDS = _WORDS.split()
FRAMING = 4
"""Tokens of a message besides its text: three and its role."""


def text(rng: random.Random, n_tokens: int) -> str:
    return " ".join(rng.choices(WORDS, k=max(1, n_tokens)))
