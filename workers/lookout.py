"""The lookout of the settlement worker: it finds pending transfers in the database, without the queue."""

import asyncio
import threading
import time
from collections.abc import Callable

from core.queue.broker import queue_away
from core.storage.engines import Engine, Glance
from core.telemetry.logging import get_logger
from core.telemetry.seldom import Seldom

LOOK_SECONDS = 0.1
"""Time between two looks."""

AGAIN_SECONDS = 1.0
"""Time between two tries to settle a transfer that stays pending: the database is away, or settlement is halted."""

look_failed = Seldom(get_logger(__name__), "look_failed")


class Lookout(threading.Thread):
    """Settles transfers that are pending for two looks in a row.

    Usually a message has the oldest transfer settled between two looks, and the lookout does nothing. So the queue
    makes settlement sooner, and is not needed for it. The thread runs only in the process that has the settlement lock.
    """

    def __init__(self, database: Engine, settle: Callable[[], int | None]) -> None:
        """`settle` returns the number of settled transfers, or None if it failed. It never raises."""
        super().__init__(name="lookout", daemon=True)
        self._database = database
        self._settle = settle
        self._stopped = threading.Event()
        self._glance: Glance | None = None
        self._seen: int | None = None
        """The oldest pending transfer of the last look."""
        self._tried: int | None = None
        self._again_at = 0.0

    def start(self) -> None:
        """Settle what is pending now, because its messages may be lost, and then look regularly."""
        self._settle()
        super().start()

    def stop(self) -> None:
        """End the thread. It finishes a unit of work that it has begun."""
        self._stopped.set()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        """Look until stopped."""
        with asyncio.Runner() as runner:
            while not self._stopped.wait(LOOK_SECONDS):
                try:
                    self._look(runner)
                except Exception as error:  # without this thread, a lost message could delay transfers for seconds
                    look_failed.warn(error=error)
                    self._close(runner)
                    self._stopped.wait(AGAIN_SECONDS)
            self._close(runner)

    def _look(self, runner: asyncio.Runner) -> None:
        if self._glance is None:
            self._glance = self._database.glance()
        oldest, before = runner.run(self._glance.oldest_pending()), self._seen
        self._seen = oldest
        if oldest is None or oldest != before:
            return
        if oldest == self._tried and time.monotonic() < self._again_at:
            return
        self._tried, self._again_at = oldest, time.monotonic() + AGAIN_SECONDS
        if settled := self._settle():
            queue_away.warn(settled_without_it=settled)

    def _close(self, runner: asyncio.Runner) -> None:
        glance, self._glance = self._glance, None
        if glance is not None:
            runner.run(glance.close())
