"""Whatever is done with managers and storages, they do what plain dicts would; whatever is said, what is sent is valid.

A few seconds here; `python -m tests.fuzz --minutes 10` goes on for longer.
"""

from __future__ import annotations

import pytest

from memexllm.testing._batches import scale
from tests.fuzz.machine import Machine
from tests.fuzz.running import MACHINES, run_machine


@pytest.mark.timeout(600 * scale())  # a failing run is made shorter first
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.__name__)
def test_nothing_is_found(machine: type[Machine]) -> None:
    run_machine(machine, n_examples=8 * scale(), n_steps=25)
