"""Waiting for a condition, with a deadline: no test sleeps and hopes."""

import time
from collections.abc import Callable

PATIENCE_SECONDS = 30.0
"""Long enough for a busy machine: the deadline passes only if the condition never holds."""


def eventually[T](look: Callable[[], T], seconds: float = PATIENCE_SECONDS) -> T:
    """Poll until the value is true, and return it; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"the condition did not hold within {seconds} s; last seen: {seen!r}"
        time.sleep(0.01)
    return seen
