"""The lock of a database: one supervisor at a time, or one activity that must have the database to itself."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from core.files.locks import open_lock, sign, signature
from core.processes import heartbeats
from core.processes.exit_statuses import CANNOT_START, HELD, StartRefused
from core.settings import Settings
from core.storage.engines import open_engine

LOCK_ATTEMPTS = 5
LOCK_PAUSE_SECONDS = 0.02


@contextmanager
def hold_database(settings: Settings) -> Iterator[int]:
    """Hold the supervisor's lock of the database, and yield its descriptor. Raises StartRefused if it is taken.

    The file stays when the lock is released. If processes removed and made it, two of them could lock different files.
    """
    path = _lock_path(settings)
    try:
        for folder in (path.parent, settings.run_dir):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Closed in the children: the lock must be free when the supervisor dies, even if a child outlives it.
        descriptor = open_lock(path)
    except OSError as error:
        name = error.filename or path
        raise StartRefused(CANNOT_START, f"GIRO_DATA_DIR: cannot use {name} ({error.strerror})") from None
    try:
        _lock(descriptor, settings.database_path)
        yield descriptor
        _forget_holder(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, database: Path) -> None:
    for attempt in range(LOCK_ATTEMPTS):
        if attempt > 0:
            time.sleep(LOCK_PAUSE_SECONDS)  # it may only be a process that looks (`holder`)
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Until this holder has signed, no name is better than the name of a killed one.
            _forget_holder(descriptor)
            return
    raise _held(database, signature(descriptor))


def _forget_holder(descriptor: int) -> None:
    """Remove the signature from the file of the lock. On a broken disk it stays; what counts is the lock itself."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)


def _held(database: Path, by: str) -> StartRefused:
    return StartRefused(HELD, f"{database} is held by another Giro: {by}; stop it first")


@contextmanager
def alone(settings: Settings, what: str) -> Iterator[None]:
    """Hold the database for the activity `what`, such as "`giro restore`", while no other process of Giro runs.

    Raises StartRefused (HELD), which names the running process: a supervisor, a settlement worker, or another part.
    """
    with hold_database(settings) as lock:
        sign(lock, what)
        with no_part_beside(settings, what):
            yield


@contextmanager
def no_part_beside(settings: Settings, what: str) -> Iterator[None]:
    """Do the same as `alone`, for a caller that holds the supervisor's lock already.

    The settlement worker is found by its lock. The other parts have no lock, and are found by their heartbeats. So is a
    standby worker of an older version, which would settle as soon as the migration is done.
    """
    lock = open_engine(settings).settler()
    try:
        if not lock.take(what):
            raise _held(settings.database_path, lock.holder())
        for part_that_runs in heartbeats.fresh(settings.run_dir, settings.silent_seconds):
            raise _held(settings.database_path, str(part_that_runs))
        yield
    finally:
        lock.close()


def holder(settings: Settings) -> str | None:
    """Return which supervisor runs the service on this database, or None. This writes nothing and makes no file."""
    try:
        descriptor = os.open(_lock_path(settings), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        # A shared lock, so that two processes that look do not take each other for a supervisor. A starting one tries
        # again.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return signature(descriptor)
    finally:
        os.close(descriptor)
    return None


def _lock_path(settings: Settings) -> Path:
    return settings.database_path.with_name(f"{settings.database_path.name}.supervisor.lock")
