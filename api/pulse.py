"""The event loop's pulse: whether it still turns, as another thread can see it."""

import asyncio
import time

BEAT_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 5.0
"""Nothing in the API keeps the loop for so long."""


class Pulse:
    """Beats on the running event loop until it is stopped."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._beat()

    def is_felt(self) -> bool:
        """Say whether the loop has turned of late. For other threads: the heartbeat's asks before each beat."""
        return time.monotonic() - self._beaten_at < LONGEST_PAUSE_SECONDS

    def stop(self) -> None:
        """Beat no more."""
        self._timer.cancel()

    def _beat(self) -> None:
        self._beaten_at = time.monotonic()
        self._timer = self._loop.call_later(BEAT_SECONDS, self._beat)
