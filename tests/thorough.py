"""Tests of many examples: `make test` plays a part of them, and `make thorough` plays all.

It runs the tests with the marker `thorough`, and those of Hypothesis, which has its own marker.
"""

import os
from collections.abc import Sequence

THOROUGH = os.environ.get("THOROUGH") == "1"


def examples(*, quick: int, thorough: int) -> int:
    """How many examples to play."""
    return thorough if THOROUGH else quick


def third[Value](values: Sequence[Value], turn: int) -> Sequence[Value]:
    """All values, or a third of them: another third in the next turn, so that three turns use each value."""
    return values if THOROUGH else values[turn % 3 :: 3]
