"""The fence: the smallest write that reaches the disk."""

from sqlalchemy import Connection

PASS = "UPDATE fences SET passed = passed + 1"


def write(connection: Connection) -> None:
    """Write the fence's row. A unit of work that commits it has proven that the database can be written."""
    connection.exec_driver_sql(PASS)
