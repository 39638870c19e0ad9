"""A warning about a state that lasts: one line a minute, however often it is noticed."""

import threading
import time
from collections import Counter

from core.telemetry.logging import Logger

SECONDS = 60.0


class Seldom:
    """Logs an event at most once a minute. Counts are added up, and the next line has their sums."""

    def __init__(self, log: Logger, event: str, *, seconds: float = SECONDS) -> None:
        self._log = log
        self._event = event
        self._seconds = seconds
        self._turn = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._error: str | None = None
        self._quiet_until = 0.0

    def warn(self, *, error: object = None, **counts: int) -> None:
        """Note the state once more. The line has the last error, and each count since the line before it."""
        with self._turn:
            self._counts.update({"times": 1, **counts})
            self._error = self._error if error is None else f"{type(error).__name__}: {error}"
            if time.monotonic() < self._quiet_until:
                return
            self._quiet_until = time.monotonic() + self._seconds
            details, self._counts = dict(self._counts), Counter()
            error_text, self._error = self._error, None
        self._log.warning(self._event, error=error_text, **details)
