"""The meaning of SQLite's errors."""

from sqlalchemy.exc import TimeoutError as NoSessionFree

from core.telemetry.metrics import database as metrics

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


def primary_name(error: Exception) -> str:
    """Return SQLite's primary name of an error: SQLITE_IOERR for SQLITE_IOERR_WRITE; `none` without a name."""
    name = getattr(getattr(error, "orig", error), "sqlite_errorname", None) or "none"
    return "_".join(name.split("_")[:2])


def is_unavailable(error: Exception) -> bool:
    """Return whether an error comes from the state of the database (locked, full, read-only …), not our statement."""
    return isinstance(error, NoSessionFree) or primary_name(error) in _RETRY_LATER


def is_damage(error: Exception) -> bool:
    """Return whether an error means that the file is damaged, and not only unavailable now."""
    return primary_name(error) in _DAMAGE or not is_unavailable(error)
