"""The fence: the smallest write that reaches the disk."""

from sqlalchemy import Connection

from core.storage.sql import Statement

PASS = "UPDATE fences SET passed = passed + 1"
_PASS = Statement(PASS)


def write(connection: Connection) -> None:
    """Write the fence's row. A unit of work that commits it has proven that the database can be written."""
    _PASS.run(connection)
