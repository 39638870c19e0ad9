"""Connections to the database file: SQLite set up for money, the same way on every connection of every process."""

import platform
import sys
from functools import cached_property
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import aiosqlite
from sqlalchemy import URL, Connection, Engine, create_engine, event, exc
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool, StaticPool
from sqlalchemy.util import await_only

from core.settings.groups.storage import StorageSettings
from core.storage.engines import DatabaseError, Library
from core.storage.sqlite.turnstile import Turnstile
from core.telemetry.logging import get_logger

log = get_logger(__name__)

AUTOCHECKPOINT_PAGES = 2000
"""Size of the log, in pages (8 MB), from which a commit moves it into the database. That takes some ten milliseconds,
in which all writers wait. With 10,000 pages it takes fifty, and no transfer is settled sooner."""

SESSIONS = 12
"""The API's reading sessions, which its callers share (api/runtime/reading.py)."""

SESSION_CACHE_KIB = 8 * 1024
"""Maximum page cache of each of the API's reading sessions. With the full cache, each would keep a copy of the ledger
in memory. Other pages come from the kernel's cache, and clients notice no difference (measured from 2 MB on)."""


def is_affected(version: str) -> bool:
    """Return whether an SQLite version has the WAL-reset bug.

    Source: sqlite.org, release notes of 3.51.3: versions 3.7.0 to 3.51.2, also fixed in 3.50.7 and 3.44.6.
    """
    numbers = tuple(int(part) for part in version.split("."))
    if numbers[:2] == (3, 50):
        return numbers < (3, 50, 7)
    if numbers[:2] == (3, 44):
        return numbers < (3, 44, 6)
    return (3, 7, 0) <= numbers < (3, 51, 3)


def no_wheel_exists() -> bool:
    """Return whether this is Linux on arm64, the only platform without a wheel of a current SQLite."""
    return sys.platform == "linux" and platform.machine() == "aarch64"


class Connections:
    """The connections and locks of one process for one database file, each opened at its first use: after any fork.

    `writer` writes, one unit of work at a time (core/storage/unit_of_work.py). `reader` and `async_reader` cannot.
    """

    def __init__(self, settings: StorageSettings) -> None:
        self.path: Path = settings.database_path
        self._busy_ms = settings.sqlite_busy_ms
        self._cache_kib = settings.sqlite_cache_mb * 1024

    @cached_property
    def turnstile(self) -> Turnstile:
        """The locks that make writers take turns."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Turnstile(self.path)

    @cached_property
    def writer(self) -> Engine:
        """The engine of this process's one writing connection."""
        engine = create_engine(self._url("sqlite"), poolclass=StaticPool, **self._options())
        event.listen(engine, "connect", self._prepare_writer)
        event.listen(engine, "begin", _begin_immediate)
        return engine

    @cached_property
    def reader(self) -> Engine:
        """The engine of read-only connections, for workers and commands. Each connection is opened for one use."""
        engine = create_engine(self._url("sqlite"), poolclass=NullPool, **self._options())
        event.listen(engine, "connect", self._prepare_reader)
        event.listen(engine, "begin", _begin)
        return engine

    @cached_property
    def async_reader(self) -> AsyncEngine:
        """The engine of the API's reading sessions."""
        engine = create_async_engine(
            self._url("sqlite+aiosqlite"),
            connect_args={"isolation_level": None, "uri": True},
            hide_parameters=True,
            pool_size=SESSIONS,
            max_overflow=0,
        )
        event.listen(engine.sync_engine, "connect", self._prepare_session)
        event.listen(engine.sync_engine, "begin", _begin_session)
        return engine

    def create(self) -> None:
        """Make the file if it is missing, readable by its owner alone, in WAL mode."""
        with self.turnstile.turn():
            self.path.touch(mode=0o600, exist_ok=True)
            with self.writer.connect():
                pass

    def schema_revision(self) -> str | None:
        """Read the migration of the file; None for an empty file. Raises DatabaseError if the file is missing."""
        if not self.path.exists():
            raise DatabaseError(f"there is no database at {self.path}; `giro migrate` makes it")
        try:
            with self.reader.connect() as connection:
                known = connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").first()
                return (
                    connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
                    if known
                    else None
                )
        except exc.DatabaseError as error:
            raise DatabaseError(f"cannot read the database {self.path}: {error.orig}") from error
        except UnicodeDecodeError as error:  # SQLite's message about a damaged schema quotes the damage
            raise DatabaseError(f"cannot read the database {self.path}: {error.object!r}") from error

    def library(self) -> Library:
        """Return the version of the SQLite library in use, and whether that version has the WAL-reset bug."""
        with self.reader.connect() as connection:
            version: str = connection.exec_driver_sql("SELECT sqlite_version()").scalar_one()
        return Library(version, is_affected(version))

    def close(self) -> None:
        """Close everything except the asynchronous engine, which its event loop closes."""
        for name in ("writer", "reader"):
            if name in self.__dict__:
                self.__dict__.pop(name).dispose()
        if "turnstile" in self.__dict__:
            self.__dict__.pop("turnstile").close()

    def _url(self, driver: str) -> URL:
        # mode=rw: a reader must never make an empty database where one is missing.
        return URL.create(driver, database=f"file:{quote(str(self.path))}", query={"mode": "rw", "uri": "true"})

    def _options(self) -> dict[str, Any]:
        # isolation_level=None: the driver starts no transaction; BEGIN is ours.
        # hide_parameters: otherwise a database error would log the values, such as names and password hashes.
        return {"connect_args": {"isolation_level": None, "check_same_thread": False}, "hide_parameters": True}

    def _prepare_writer(self, connection: Any, _record: Any) -> None:
        self._prepare(connection)
        connection.execute("PRAGMA journal_mode=WAL").fetchall()
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        # Deleted data is overwritten in the file, so that nothing of an erased user stays in its free pages.
        connection.execute("PRAGMA secure_delete=ON").fetchall()
        # Otherwise INSERT OR REPLACE would delete a row without running the triggers that protect the ledger.
        connection.execute("PRAGMA recursive_triggers=ON")
        connection.execute(f"PRAGMA wal_autocheckpoint={AUTOCHECKPOINT_PAGES}").fetchall()

    def _prepare_reader(self, connection: Any, _record: Any) -> None:
        self._prepare(connection)
        connection.execute("PRAGMA query_only=ON")
        connection.execute("PRAGMA wal_autocheckpoint=0").fetchall()

    def _prepare_session(self, connection: Any, record: Any) -> None:
        self._prepare_reader(connection, record)
        connection.execute(f"PRAGMA cache_size=-{min(self._cache_kib, SESSION_CACHE_KIB)}")

    def _prepare(self, connection: Any) -> None:
        connection.execute(f"PRAGMA busy_timeout={self._busy_ms}").fetchall()
        connection.execute(f"PRAGMA cache_size=-{self._cache_kib}")
        connection.execute("PRAGMA trusted_schema=OFF")
        _check_version(connection.execute("SELECT sqlite_version()").fetchone()[0])


def _check_version(version: str) -> None:
    if not is_affected(version):
        return
    if not no_wheel_exists():
        raise DatabaseError(f"SQLite {version} can corrupt a database (WAL-reset bug); install the wheel pysqlite3")
    log.warning("sqlite_affected", version=version, defence="turnstile only")


def _begin_session(connection: Connection) -> None:
    """Begin with one visit to the session's thread. SQLAlchemy's cursor would need three, as many as a short query."""
    session = cast(aiosqlite.Connection, connection.connection.driver_connection)
    await_only(session.execute("BEGIN"))


def _begin_immediate(connection: Connection) -> None:
    # A deferred transaction that reads and then writes fails immediately if another one has written in between.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")
