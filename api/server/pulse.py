"""The event loop's pulse, which shows other threads whether the loop still runs."""

import asyncio
import time

BEAT_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 5.0
"""Nothing in the API blocks the loop for this long."""


class Pulse:
    """Beats on the running event loop until it is stopped."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._beat()

    def is_felt(self) -> bool:
        """Return whether the loop has run recently. For other threads: the heartbeat thread asks before each beat."""
        return time.monotonic() - self._beaten_at < LONGEST_PAUSE_SECONDS

    def stop(self) -> None:
        """Stop beating."""
        self._timer.cancel()

    def _beat(self) -> None:
        self._beaten_at = time.monotonic()
        self._timer = self._loop.call_later(BEAT_SECONDS, self._beat)
