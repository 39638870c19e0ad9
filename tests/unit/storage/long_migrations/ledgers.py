"""The large ledger of these tests, and ways to read its file."""

import sqlite3
from contextlib import closing
from pathlib import Path

BEFORE, BEGUN = "0015", "0016"
"""The revision before the long migration, and the one after its first commit."""

TRANSFERS, CHUNK, CHUNKS = 230, 50, 5
PAGE = 4096

Content = dict[str, list[tuple[object, ...]]]


def content(path: Path) -> Content:
    """Read every row of every table, and the schema."""
    with closing(sqlite3.connect(path)) as raw:
        tables = [name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {name: sorted(raw.execute(f"SELECT * FROM {name}"), key=repr) for name in tables}
        return found | {"schema": sorted(raw.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"), key=repr)}


def read(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as raw:
        return raw.execute(query).fetchall()


def revision(path: Path) -> object:
    return read(path, "SELECT version_num FROM alembic_version")[0][0]


def moved(path: Path) -> int:
    """Return the number of transfers that have moved."""
    (count,) = read(path, "SELECT count(*) FROM new_transfers")[0]
    assert isinstance(count, int)
    return count


def rows_of(found: Content) -> Content:
    """Leave the schema out: the triggers that a test removed for a moment may be written in another way."""
    return {name: table for name, table in found.items() if name != "schema"}
