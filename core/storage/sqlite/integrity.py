"""SQLite's own checks of tables, indexes and foreign keys."""

from sqlalchemy import Connection


def tables(connection: Connection) -> list[str]:
    """Name every table."""
    query = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
    return [row[0] for row in connection.exec_driver_sql(query)]


def complaints(connection: Connection, table: str) -> list[str]:
    """Let SQLite check a table, its indexes and its foreign keys, and return its complaints in its own words."""
    found = [row[0] for row in connection.exec_driver_sql(f'PRAGMA integrity_check("{table}")') if row[0] != "ok"]
    strays = connection.exec_driver_sql(f'PRAGMA foreign_key_check("{table}")')
    return found + [f"row {row[1]} of {table} refers to a missing row of {row[2]}" for row in strays]
