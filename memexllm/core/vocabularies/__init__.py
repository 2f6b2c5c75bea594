"""The vocabularies of OpenAI's models, packed by `scripts/pack-vocabularies`, so that counting needs no network.

tiktoken itself downloads them at first use and fails without a connection. They are tiktoken's, under its licence
(`LICENSE.txt`).
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import lzma
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tiktoken


@functools.cache
def encoding(name: str) -> tiktoken.Encoding:
    """tiktoken's encoding of that name, made of the packed ranks; the first call takes about 0.2 s."""
    import tiktoken

    folder = importlib.resources.files(__name__)
    rules = json.loads(folder.joinpath(f"{name}.json").read_text(encoding="utf-8"))
    packed = lzma.decompress(folder.joinpath(f"{name}.xz").read_bytes())
    return tiktoken.Encoding(
        name,
        pat_str=rules["pattern"],
        mergeable_ranks=_ranks(packed),
        special_tokens=rules["special_tokens"],
    )


def _ranks(packed: bytes) -> dict[bytes, int]:
    """Token bytes → rank; each token lies behind its length, in the order of ranks."""
    ranks: dict[bytes, int] = {}
    place = 0
    while place < len(packed):
        end = place + 1 + packed[place]
        ranks[packed[place + 1 : end]] = len(ranks)
        place = end
    return ranks
