"""Upkeep of the database file."""

from core.storage.engines import Checkpoint
from core.storage.sqlite.connections import Connections
from core.storage.sqlite.log import is_followed
from core.telemetry.metrics import database as metrics

READER_MS = 100
"""Time that a checkpoint waits for readers. All writers wait meanwhile, and backups and verifications read for long."""


def checkpoint(database: Connections) -> Checkpoint:
    """Move the write-ahead log into the database and truncate it, taking turns with all writers.

    Where a follower runs, this is its work, and nothing is done.
    """
    if is_followed(database.path):
        return Checkpoint(blocked=False, pages=0)
    with database.turnstile.turn(), database.writer.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        (patience,) = raw.execute("PRAGMA busy_timeout").fetchone()
        raw.execute(f"PRAGMA busy_timeout={min(patience, READER_MS)}").fetchone()
        try:
            with metrics.checkpoint_duration.time():
                blocked, _log_pages, moved = raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            raw.execute(f"PRAGMA busy_timeout={patience}").fetchone()
        metrics.checkpoints_blocked.inc(blocked)
        return Checkpoint(bool(blocked), moved)


def database_bytes(database: Connections) -> int:
    """Return the size of the database file without its log, from the file system; raises OSError if it is missing."""
    return database.path.stat().st_size


def wal_bytes(database: Connections) -> int:
    """Return the size of the write-ahead log, from the file system: only SQLite may open that file."""
    try:
        return database.path.with_name(f"{database.path.name}-wal").stat().st_size
    except FileNotFoundError:
        return 0
