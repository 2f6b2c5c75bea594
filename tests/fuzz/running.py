"""The machines there are, and how one is run."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.fuzz.machine import Machine
from tests.fuzz.manager_machine import ManagerMachine
from tests.fuzz.storage_machine import StorageMachine
from tests.fuzz.windows import AnyThread, CallsOfAThread

MACHINES: tuple[type[Machine], ...] = (ManagerMachine, StorageMachine, CallsOfAThread, AnyThread)


def run_machine(machine: type[Machine], n_examples: int, n_steps: int) -> None:
    """As many random runs of up to `n_steps` operations; what fails is made as short as can be, and raised."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=n_examples,
            stateful_step_count=n_steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
