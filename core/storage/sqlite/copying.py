"""Copying the database while other processes write, and reading what a copy contains."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from core.files import durable
from core.storage.engines import DatabaseError
from core.storage.sqlite.connections import Connections
from core.storage.sqlite.log import read_tick

STEP_PAGES = 1000
"""Pages copied between two reports of progress: some four megabytes."""

COUNTED = ("users", "accounts", "cards", "transfers", "transactions", "statements", "audit_entries")

Progress = Callable[[int, int], None]
"""Called now and then with how much is done, and the total."""


def copy(database: Connections, target: Path, progress: Progress) -> tuple[str, int] | None:
    """Copy one snapshot of the database into a new file with mode 0600, a single file without a write-ahead log.

    Returns the series and the tick of the last capture (core/storage/sqlite/log.py) before the snapshot. Writers wait
    only until the snapshot has begun. Only SQLite opens the database: closing a descriptor of ours would drop its
    locks. The copy is on disk when this returns. Raises DatabaseError, and sqlite3.Error or OSError if it cannot be
    written.
    """
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with database.reader.connect() as connection, closing(sqlite3.connect(target, isolation_level=None)) as new:
        # Reading begins the transaction that holds the snapshot from the first page to the last. Without one, each
        # step would see what was committed before it, and the copy would start again.
        with database.turnstile.turn():
            connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
            last_capture = read_tick(database.path)
        source = connection.connection.driver_connection
        assert source is not None
        new.execute("PRAGMA synchronous=OFF")  # an interrupted copy is deleted, and a complete one is synced below
        source.backup(new, pages=STEP_PAGES, sleep=0, progress=lambda _status, left, of: progress(of - left, of))
        new.execute("PRAGMA journal_mode=DELETE").fetchall()
    durable.sync(target)
    return last_capture


def broken_pages(database: Connections) -> list[str]:
    """Let SQLite check every page and every index of a database, and return its complaints, at most ten lines."""
    try:
        with database.reader.connect() as connection:
            lines = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check(10)")]
    except DBAPIError as error:
        return [str(error.orig)]
    return [] if lines == ["ok"] else lines


def counts(connection: Connection) -> dict[str, int]:
    """Count the rows of the most important tables, by table."""
    # nosemgrep: sql-from-constants - tables of a constant
    return {table: connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one() for table in COUNTED}


def head(connection: Connection) -> dict[str, int]:
    """Return the newest row ids: `transfer`, `transaction` and `audit_entry`; 0 for an empty table."""
    tables = {"transfer": "transfers", "transaction": "transactions", "audit_entry": "audit_entries"}
    return {
        # nosemgrep: sql-from-constants - tables of the line above
        name: connection.exec_driver_sql(f"SELECT coalesce(max(id), 0) FROM {table}").scalar_one()
        for name, table in tables.items()
    }


def require_one_piece(path: Path) -> None:
    """Raise DatabaseError if a closed database has left data in a log next to it."""
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        raise DatabaseError(f"{path} could not be made a single file: {log.name} is not empty")
