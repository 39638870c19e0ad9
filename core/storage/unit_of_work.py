"""The unit of work: one database transaction, taken in turn, with a clear answer when it fails."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from core.domain.errors import OutcomeUnknown, Unavailable
from core.domain.lanes import Lane
from core.storage.engines import DATABASE_ERRORS, SCHEMA_REVISION, Engine
from core.telemetry.logging import get_logger
from core.telemetry.metrics import database as metrics

log = get_logger(__name__)


@contextmanager
def unit_of_work(database: Engine, *lanes: Lane) -> Iterator[Connection]:
    """Wait for the lanes, begin, let the caller read and write, and commit.

    The lanes are those of everything that the work changes or decides by, as `Lane` says. Without one, the work runs
    beside all others, unless the engine has a single lane for all.

    Any exception rolls everything back. Raises Unavailable if nothing was recorded and a retry may succeed, and
    OutcomeUnknown if the commit failed and may still take effect after a crash. A database that another
    version of Giro has migrated meanwhile is Unavailable too, and `database.moved_on` is called.
    """
    with _translated(database), database.writing(lanes) as connection:
        try:
            _require_schema(database, connection)  # inside the transaction, beside which no migration can run
            yield connection
        except BaseException:
            connection.rollback()
            raise
        try:
            with metrics.commit_duration.time():
                connection.commit()
        except DBAPIError as error:
            count_error(database, error)
            log.error("commit_failed", error=str(error.orig))
            if not database.undo_commit(connection):
                raise OutcomeUnknown from error
            raise Unavailable from error


def is_at_this_schema(database: Engine, connection: Connection) -> bool:
    """Return whether the schema is the one that this code needs; if not, log that and call `database.moved_on`."""
    found = database.revision_in(connection)
    if database.is_current(found):
        return True
    log.error("schema_moved_on", found=found, needed=SCHEMA_REVISION)
    database.moved_on()
    return False


def _require_schema(database: Engine, connection: Connection) -> None:
    if not is_at_this_schema(database, connection):
        raise Unavailable("The database belongs to another version by now; nothing was recorded.")


def count_error(database: Engine, error: Exception) -> None:
    """Count an error of the database. A unit of work counts its own; this is for all other callers."""
    metrics.database_errors.labels(database.error_name(error)).inc()


@contextmanager
def _translated(database: Engine) -> Iterator[None]:
    try:
        yield
    except DATABASE_ERRORS as error:
        count_error(database, error)
        if database.is_unavailable(error):
            log.error("database_unavailable", error=str(getattr(error, "orig", error)))
            raise Unavailable from error
        raise
    except OSError as error:
        log.error("lock_unavailable", error=str(error))
        raise Unavailable from error
