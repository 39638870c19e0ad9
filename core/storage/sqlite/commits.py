"""What is left of a commit that failed: SQLite rolls back, but parts of it may remain in the log until a crash."""

from typing import Any

from sqlalchemy import Connection

from core.storage import fences
from core.storage.sqlite.errors import primary_name
from core.telemetry.logging import get_logger
from core.telemetry.metrics import database as metrics

log = get_logger(__name__)


def undo(connection: Connection) -> bool:
    """Commit one more row, which overwrites the rest of a failed commit in the log: a crash cannot bring it back.

    Returns False if this commit fails too.
    """
    raw = connection.connection.driver_connection
    assert raw is not None
    _rollback_quietly(raw)
    try:
        raw.execute("BEGIN IMMEDIATE")
        raw.execute(fences.PASS)
        raw.execute("COMMIT")
    except Exception as error:
        metrics.database_errors.labels(primary_name(error)).inc()
        log.error("fence_failed", error=str(error))
        _rollback_quietly(raw)
        return False
    return True


def _rollback_quietly(raw: Any) -> None:
    """Leave no transaction open after a failed commit. A rollback that fails is only logged."""
    if raw.in_transaction:
        try:
            raw.execute("ROLLBACK")
        except Exception as error:
            log.error("rollback_failed", error=str(error))
