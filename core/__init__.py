"""The bank itself: domain, storage, services, queue.

SQLite 3.7.0 to 3.51.2 can corrupt a WAL database when two connections write or
checkpoint at once, and the library inside Python is usually one of those. So a
current one, from the `pysqlite3` wheel, takes the name `sqlite3` before anything
that opens a database is imported. See docs/decisions/0002-sqlite-for-money.md.
"""

import importlib.util
import sys
from importlib.metadata import version

if importlib.util.find_spec("pysqlite3"):
    if "aiosqlite" in sys.modules:
        raise ImportError("import core before aiosqlite: it must not bind Python's own SQLite")
    import pysqlite3
    import pysqlite3.dbapi2

    sys.modules["sqlite3"] = pysqlite3
    sys.modules["sqlite3.dbapi2"] = pysqlite3.dbapi2

import sqlite3

SQLITE_VERSION = sqlite3.sqlite_version
"""The version of the SQLite library in use."""

DISTRIBUTION = "giro-bank"
"""The name of the Python package that is installed; `giro` on PyPI is another program."""

VERSION = version(DISTRIBUTION)
"""The version of Giro that is installed."""
