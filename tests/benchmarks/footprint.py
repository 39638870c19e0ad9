"""A service's footprint: the memory of its processes, and the bytes of its ledger on disk by table and index."""

from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from pysqlite3 import dbapi2 as sqlite

INTERIOR = {2, 5}
"""First byte of an interior page, of an index and of a table (sqlite.org, "Database File Format", 1.6)."""


def unshared_mb(pid: int) -> float:
    """Return the unshared memory of a process in megabytes: the memory that its end would free."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024 / 1e6


def bytes_in(folder: Path) -> int:
    """Return the bytes of all files of a data folder, except those that exist only while the service runs."""
    files = (path for path in folder.rglob("*") if path.is_file() and "run" not in path.relative_to(folder).parts)
    return sum(path.stat().st_size for path in files)


def trees(path: Path) -> Counter[str]:
    """Count the bytes of each table and index of a database, and of `anything else`, mostly free pages.

    The database must be checkpointed, and no process may have it open. Only the pages above the leaves of a table or
    index are read. Overflow pages of long values count as `anything else`.
    """
    with closing(sqlite.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        roots = _roots(connection)
        (size,), (total,) = (connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_size", "page_count"))
    with path.open("rb") as file:
        counts = Counter({name: _pages(file, size, root) * size for name, root in roots})
    counts["anything else"] = total * size - counts.total()
    return counts


def _roots(connection: sqlite.Connection) -> list[tuple[str, int]]:
    """Return every table and index with its root page."""
    roots = [("schema", 1)]
    query = "SELECT type, name, tbl_name, rootpage FROM sqlite_master WHERE rootpage > 0"
    for kind, name, table, root in connection.execute(query).fetchall():
        columns = [row[2] for row in connection.execute(f"PRAGMA index_info('{name}')")] if kind == "index" else []
        roots.append((f"{table} ({', '.join(columns)})" if columns else table, root))
    return roots


def _pages(file: BinaryIO, size: int, number: int) -> int:
    """Count the pages of a tree below a page. All leaves are equally deep, so one of them gives the depth."""
    file.seek((number - 1) * size)
    page = file.read(size)
    start = 100 if number == 1 else 0  # the file's own header
    if page[start] not in INTERIOR:
        return 1
    cells = int.from_bytes(page[start + 3 : start + 5])
    pointers = page[start + 12 : start + 12 + 2 * cells]
    places = [int.from_bytes(pointers[at : at + 2]) for at in range(0, 2 * cells, 2)]
    children = [int.from_bytes(page[place : place + 4]) for place in places]
    children.append(int.from_bytes(page[start + 8 : start + 12]))
    first = _pages(file, size, children[0])
    if first == 1:
        return 1 + len(children)
    return 1 + first + sum(_pages(file, size, child) for child in children[1:])
