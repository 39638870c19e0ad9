"""The turnstile around every write, and the lock of the one settlement worker.

Lock files lie next to the database and are never the database itself: closing a second descriptor of that would drop
SQLite's own locks.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.files.locks import FileLock
from core.telemetry.metrics import database as metrics


class Turnstile:
    """Lets one process write at a time, and gives every writer its turn.

    SQLite's busy timeout alone lets one of two busy writers starve. Here a writer holds the lock `queue`
    while it waits for the lock `write`. The next writer waits for `queue`, so it cannot overtake.
    """

    def __init__(self, database: Path) -> None:
        self._queue = FileLock(database.with_name(f"{database.name}.queue.lock"))
        self._write = FileLock(database.with_name(f"{database.name}.write.lock"))
        # Threads of one process share the descriptors, and flock does not keep them apart.
        self._threads = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the right to write to the database."""
        arrived = time.perf_counter()
        with self._threads:
            self._queue.acquire()
            try:
                self._write.acquire()
            finally:
                self._queue.release()
            metrics.lock_wait_duration.observe(time.perf_counter() - arrived)
            try:
                yield
            finally:
                self._write.release()

    def others_wait(self) -> bool:
        """Return whether another process waits to write; meant for the process that has the turn."""
        if self._queue.try_acquire():
            self._queue.release()
            return False
        return True

    def close(self) -> None:
        """Close both descriptors."""
        self._queue.close()
        self._write.close()


def settlement_lock(database: Path) -> FileLock:
    """Open the lock whose holder is the one settlement worker of a database."""
    return FileLock(database.with_name(f"{database.name}.settlement.lock"))
