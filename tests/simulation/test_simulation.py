"""Random sequences of all possible events, compared with a small model (Hypothesis).

`SIMULATE_SECONDS` is how long each player runs. A failure prints the shortest failing sequence. `SIMULATE_SEED`
repeats a run. `SIMULATE_SHORTEN=no` stops at the first failing sequence without shortening it.
"""

import os
import time
from collections import Counter
from collections.abc import Callable
from random import SystemRandom

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.simulation.machine import Simulation
from tests.simulation.template import Template

pytestmark = pytest.mark.long

SECONDS = float(os.environ.get("SIMULATE_SECONDS", "7"))
SEED = int(os.environ.get("SIMULATE_SEED") or SystemRandom().getrandbits(32))
AT_ONCE = 10
"""Number of sequences between two checks of the clock."""
STEPS = 40

PROFILE = settings(
    max_examples=AT_ONCE,
    stateful_step_count=STEPS,
    deadline=None,
    database=None,
    phases=[Phase.generate] if os.environ.get("SIMULATE_SHORTEN") == "no" else [Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)


@pytest.mark.timeout(SECONDS + 600)
@pytest.mark.parametrize("player", [1, 2])
def test_bank_matches_the_model_in_every_sequence(
    player: int, template: Template, quiet: None, record_property: Callable[[str, object], None]
) -> None:
    print(f"SIMULATE_SEED={SEED}")  # pytest shows it if the test fails
    played: Counter[str] = Counter()
    machine = type("Simulation", (Simulation,), {"template": template, "counts": played})
    until, number = time.monotonic() + SECONDS, SEED + player * 2**32
    while time.monotonic() < until:
        number += 1
        run_state_machine_as_test(seed(number)(machine), settings=PROFILE)
    record_property("played", dict(played))
