"""Answers that are held for a moment, so that a client beyond its share cannot spin on refusals."""

import asyncio
import random  # nosemgrep: unguessable-values-use-secrets - spreads waits
import time
from contextlib import suppress

from starlette.types import Scope

from core.telemetry.metrics import http as metrics


class HeldAnswers:
    """Holds the answers to clients that have used up a rate or their places in a line.

    Then each of their connections gets about one refusal in `seconds`, and costs nothing in between but a timer. At
    most `most` answers are held at a time; further ones are sent at once.
    """

    def __init__(self, *, seconds: float, most: int) -> None:
        self._seconds = seconds
        self._most = most
        self._count = 0
        self._released = asyncio.Event()

    async def hold(self, scope: Scope) -> float:
        """Hold the answer to a refused request if its client is beyond its share. Returns the seconds that it took."""
        if not self._seconds or self._count >= self._most or not scope["state"].get("beyond_share"):
            return 0.0
        begun = time.perf_counter()
        self._count += 1
        metrics.answers_held.set(self._count)
        try:
            with suppress(TimeoutError):
                # At different times, so that refusals of requests that came together do not end together.
                async with asyncio.timeout(self._seconds * random.uniform(0.5, 1)):  # nosec B311 # spreads waits
                    await self._released.wait()
        finally:
            self._count -= 1
            metrics.answers_held.set(self._count)
        return time.perf_counter() - begun

    def release(self) -> None:
        """Send all held answers, and hold none from now on, because the process stops."""
        self._released.set()
