"""The unit of work: one database transaction, taken in turn, with a clear answer when it fails."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoSessionFree

from core.domain.errors import OutcomeUnknown, Unavailable
from core.storage import fences
from core.storage.sqlite.engine import SCHEMA_REVISION, Database
from core.telemetry.logging import get_logger
from core.telemetry.metrics import database as metrics

log = get_logger(__name__)

_RETRY_LATER = {
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
    "SQLITE_READONLY",
    "SQLITE_IOERR",
    "SQLITE_CORRUPT",
    "SQLITE_FULL",
    "SQLITE_CANTOPEN",
    "SQLITE_PROTOCOL",
    "SQLITE_NOTADB",
}
_DAMAGE = {"SQLITE_CORRUPT", "SQLITE_NOTADB"}
for _name in _RETRY_LATER:
    metrics.database_errors.labels(_name)  # at 0 from the start, or an alert would not see the first error as a rise

DATABASE_ERRORS: tuple[type[Exception], ...] = (DBAPIError, sqlite3.Error, NoSessionFree)
"""Errors of the database: from the engines, from the bare driver (core/storage/sqlite/glance.py), and from the pool
when all reading sessions are in use."""


@contextmanager
def unit_of_work(database: Database) -> Iterator[Connection]:
    """Wait for the turn, begin, let the caller read and write, and commit.

    Any exception rolls everything back. Raises Unavailable if nothing was recorded and a retry may succeed, and
    OutcomeUnknown if the commit failed and may still take effect after a crash. A database that another
    version of Giro has migrated meanwhile is Unavailable too, and `database.moved_on` is called.
    """
    with _translated(), database.turnstile.turn(), database.writer.connect() as connection:
        work = connection.begin()
        try:
            _require_schema(database, connection)  # inside the lock, where no migration can run
            yield connection
        except BaseException:
            work.rollback()
            raise
        try:
            with metrics.commit_duration.time():
                work.commit()
        except DBAPIError as error:
            count_error(error)
            log.error("commit_failed", error=str(error.orig))
            _rollback_quietly(connection)
            _pass_fence(connection)
            raise Unavailable from error


def is_at_this_schema(database: Database, connection: Connection) -> bool:
    """Return whether the schema is the one that this code needs; if not, log that and call `database.moved_on`."""
    raw = connection.connection.driver_connection
    assert raw is not None
    # Read by the driver itself: that takes some 7 µs, and 100 through SQLAlchemy. Every unit of work pays it.
    row = raw.execute("SELECT version_num FROM alembic_version").fetchone()
    found = row and row[0]
    if database.is_current(found):
        return True
    log.error("schema_moved_on", found=found, needed=SCHEMA_REVISION)
    database.moved_on()
    return False


def _require_schema(database: Database, connection: Connection) -> None:
    if not is_at_this_schema(database, connection):
        raise Unavailable("The database belongs to another version by now; nothing was recorded.")


def is_unavailable(error: Exception) -> bool:
    """Return whether an error comes from the state of the database (locked, full, read-only …), not our statement."""
    return isinstance(error, NoSessionFree) or _primary_name(error) in _RETRY_LATER


def is_damage(error: DBAPIError) -> bool:
    """Return whether an error means that the file is damaged, and not only unavailable now."""
    return _primary_name(error) in _DAMAGE or not is_unavailable(error)


def count_error(error: Exception) -> None:
    """Count an error of the database. A unit of work counts its own; this is for all other callers."""
    metrics.database_errors.labels(_primary_name(error)).inc()


def _primary_name(error: Exception) -> str:
    """Return SQLite's primary name of an error: SQLITE_IOERR for SQLITE_IOERR_WRITE; `none` without a name."""
    name = getattr(getattr(error, "orig", error), "sqlite_errorname", None) or "none"
    return "_".join(name.split("_")[:2])


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        count_error(error)
        if is_unavailable(error):
            log.error("database_unavailable", error=str(getattr(error, "orig", error)))
            raise Unavailable from error
        raise
    except OSError as error:
        log.error("lock_unavailable", error=str(error))
        raise Unavailable from error


def _rollback_quietly(connection: Connection) -> None:
    """Leave no transaction open after a failed commit. A rollback that fails is only logged."""
    raw = connection.connection.driver_connection
    assert raw is not None
    if raw.in_transaction:
        try:
            raw.execute("ROLLBACK")
        except Exception as error:
            log.error("rollback_failed", error=str(error))


def _pass_fence(connection: Connection) -> None:
    """Commit one more row, which overwrites the rest of a failed commit in the log: a crash cannot bring it back.

    Raises OutcomeUnknown if this commit fails too.
    """
    raw = connection.connection.driver_connection
    assert raw is not None
    try:
        raw.execute("BEGIN IMMEDIATE")
        raw.execute(fences.PASS)
        raw.execute("COMMIT")
    except Exception as error:
        count_error(error)
        log.error("fence_failed", error=str(error))
        _rollback_quietly(connection)
        raise OutcomeUnknown from error
