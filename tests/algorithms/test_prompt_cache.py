"""What the documentation says of windows and prompt caches, on a shorter chat than `benchmarks/windows.py` plays."""

from __future__ import annotations

import pytest

from benchmarks.windows import DISCOUNTS, bill_of
from memexllm import BaseAlgorithm, FIFOAlgorithm, TokenWindowAlgorithm

N_CALLS = 80


@pytest.mark.parametrize(
    ("rests", "slides"),
    [
        (TokenWindowAlgorithm(3000, keep=0.6), TokenWindowAlgorithm(3000, keep=1.0)),
        (FIFOAlgorithm(max_messages=20, keep=0.5), FIFOAlgorithm(max_messages=20)),
    ],
    ids=["tokens", "messages"],
)
def test_a_window_that_rests_is_cheaper_than_one_that_slides(rests: BaseAlgorithm, slides: BaseAlgorithm) -> None:
    resting, sliding = bill_of(rests, N_CALLS), bill_of(slides, N_CALLS)
    assert 0 < resting.moves < sliding.moves / 3
    for discount in DISCOUNTS:
        assert resting.price(discount) < sliding.price(discount)
