"""Waiting for something to come about, with a deadline: no test sleeps in the hope that it has."""

import time
from collections.abc import Callable

PATIENCE_SECONDS = 30.0
"""Long enough for a busy machine: it passes only when the thing does not come about at all."""


def eventually[T](look: Callable[[], T], seconds: float = PATIENCE_SECONDS) -> T:
    """Look again and again until what is seen is true, and return it; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"did not come about within {seconds} s; last seen: {seen!r}"
        time.sleep(0.01)
    return seen
