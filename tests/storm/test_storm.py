"""Random conversations on one thread through any surface, with all that goes wrong: nothing is lost, nothing doubled.

A tenth of them here; `python -m tests.storm --conversations 2000` plays as many as it is told.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from memexllm.testing._batches import scale
from tests.storm.playing import play

N_BATCHES, N_IN_A_BATCH = 10, 20


@pytest.mark.timeout(60 * scale())
@pytest.mark.parametrize("batch", range(N_BATCHES))
def test_the_thread_is_what_happened_and_the_server_refuses_nothing(tmp_path: Path, batch: int) -> None:
    size = N_IN_A_BATCH * scale()
    done = play(range(batch * size, (batch + 1) * size), tmp_path)
    assert done["conversations"] == size
