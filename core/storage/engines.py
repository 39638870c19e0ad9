"""The seam between Giro and its database engine: what an engine offers, and how the engine of `DATABASE_URL` is opened.

Everything outside the folder of an engine knows this file only.
"""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol
from uuid import UUID

from sqlalchemy import Connection, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoSessionFree
from sqlalchemy.ext.asyncio import AsyncEngine

from core.domain.lanes import Lane
from core.domain.users import Identity
from core.settings.groups.storage import StorageSettings

SCHEMA_REVISION = "0017"
"""The migration that this code needs. A test checks that it is the newest in migrations/versions."""

DATABASE_ERRORS: tuple[type[Exception], ...] = (DBAPIError, sqlite3.Error, NoSessionFree)
"""Errors of the database: from SQLAlchemy, from a bare driver, and from the pool when all reading sessions are in use.
The engine says what an error means."""


class DatabaseError(Exception):
    """A database that Giro must not or cannot work with; the message is one line for an operator."""


class Glance(Protocol):
    """Look-ups of the event loop, which cost less than a reading session. Each sees the latest commit."""

    async def data_version(self) -> int:
        """Return a number that changes whenever a transfer may have ended, in any process."""

    async def oldest_pending(self) -> int | None:
        """Return the sequence of the oldest pending transfer; None if none is pending."""

    async def identity(self, public_id: UUID) -> Identity | None:
        """Read an active user; None if the user is deactivated or does not exist."""

    async def ended(self, transfer_ids: Collection[UUID]) -> list[UUID]:
        """Find which of these transfers are no longer pending."""

    async def close(self) -> None:
        """Close the connection."""


class SettlerLock(Protocol):
    """The lock whose holder is the one settlement worker of a database. It is free when the holder ends."""

    def take(self, what: str) -> bool:
        """Take the lock if nobody holds it, and sign it as `what`."""

    def holder(self) -> str:
        """Return the holder's signature."""

    def close(self) -> None:
        """Release the lock."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The result of a checkpoint: whether others blocked it, and the pages that it moved into the database."""

    blocked: bool
    pages: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes in bytes: of the database, and of its write-ahead log."""

    database: int
    log: int


@dataclass(frozen=True, slots=True)
class Library:
    """The database library in use: its version, and whether this version is known to damage data."""

    version: str
    is_affected: bool


class Engine(ABC):
    """One process's access to one database. Everything is opened at its first use: after any fork."""

    product: ClassVar[str]
    """The engine's own name, for people."""
    sessions: ClassVar[int]
    """The number of reading sessions of `async_reader`, which the callers of the API share."""

    moved_on: Callable[[], None]
    """Called when a unit of work finds another schema than this code's. A process of the service then stops."""

    def __init__(self) -> None:
        self.moved_on = lambda: None

    @property
    @abstractmethod
    def place(self) -> str:
        """Where the database is, for people."""

    @property
    @abstractmethod
    def folder(self) -> Path:
        """A folder on the disk whose free space decides whether this process can continue to write."""

    @abstractmethod
    def exists(self) -> bool:
        """Return whether there is a database. It may have no schema yet."""

    @abstractmethod
    def close(self) -> None:
        """Close everything except the asynchronous reader, which its event loop closes."""

    # --- the schema ---

    @abstractmethod
    def schema_revision(self) -> str | None:
        """Read the database's migration; None without a schema. Raises DatabaseError if there is no database."""

    @abstractmethod
    def revision_in(self, connection: Connection) -> str | None:
        """Read the migration in a transaction. Every unit of work does this, so it must be fast."""

    def require_schema(self) -> None:
        """Raise DatabaseError unless the database is at the migration that this code needs."""
        self.require_revision(self.schema_revision())

    def require_revision(self, revision: str | None) -> None:
        """Raise DatabaseError unless this is the migration that this code needs."""
        self.refuse_newer_schema(revision)
        if revision is None:
            raise DatabaseError(f"the database {self.place} has no schema yet: run `giro migrate`")
        if not self.is_current(revision):
            raise DatabaseError(
                f"the database {self.place} is at migration {revision}, this Giro needs {SCHEMA_REVISION}: "
                "run `giro migrate`"
            )

    def refuse_newer_schema(self, revision: str | None) -> None:
        """Raise DatabaseError if this code does not know a migration: downgrades are not possible."""
        if revision is not None and revision > SCHEMA_REVISION:
            raise DatabaseError(
                f"the database {self.place} is at migration {revision}, from a newer Giro; this one knows those "
                f"up to {SCHEMA_REVISION}"
            )

    @staticmethod
    def is_current(revision: str | None) -> bool:
        """Return whether a migration is the one that this code needs."""
        return revision == SCHEMA_REVISION

    # --- writing: use core/storage/unit_of_work.py ---

    def held(self, lanes: Collection[Lane]) -> frozenset[Lane]:
        """Return the lanes that a unit of work holds when it takes these: all of them, or more."""
        return frozenset(lanes)

    @abstractmethod
    def writing(self, lanes: Collection[Lane]) -> AbstractContextManager[Connection]:
        """Wait for the lanes, in the order of `Lane`, and begin a transaction, which the caller ends.

        What the transaction reads is not older than its turn in the lanes.
        """

    @abstractmethod
    def undo_commit(self, connection: Connection) -> bool:
        """Make sure that a commit that failed does not take effect later, and return whether that is certain."""

    @abstractmethod
    def others_wait(self) -> bool:
        """Return whether somebody waits for a lane that the settlement worker holds."""

    @abstractmethod
    def settler(self) -> SettlerLock:
        """Open the lock of the one settlement worker."""

    # --- reading ---

    @abstractmethod
    def reading(self) -> AbstractContextManager[Connection]:
        """Open a connection that only reads.

        Each of its transactions is one snapshot. It begins with the first query, and ends with `rollback`.
        """

    @property
    @abstractmethod
    def async_reader(self) -> AsyncEngine:
        """The asynchronous reading sessions, which see snapshots too."""

    @abstractmethod
    def glance(self) -> Glance:
        """Open the look-ups for one event loop."""

    # --- errors ---

    @abstractmethod
    def error_name(self, error: Exception) -> str:
        """Name an error of the database, for metrics; `none` if it has no name."""

    @abstractmethod
    def is_unavailable(self, error: Exception) -> bool:
        """Return whether an error comes from the state of the database (locked, full …), not from our statement."""

    @abstractmethod
    def is_damage(self, error: Exception) -> bool:
        """Return whether an error means that the data is damaged, and not only unavailable now."""

    # --- verification and upkeep ---

    @abstractmethod
    def schema_differences(self, connection: Connection) -> list[str]:
        """Name what is missing from the schema and what was changed in it, beside this code's."""

    @abstractmethod
    def complaints(self, connection: Connection) -> Iterator[str]:
        """Let the engine check how its data is stored, and return its complaints. Ends snapshots in between."""

    @abstractmethod
    def sizes(self) -> Sizes:
        """Measure the database. Raises OSError if it is missing."""

    @abstractmethod
    def checkpoint(self) -> Checkpoint:
        """Shorten the write-ahead log, if that is Giro's task."""

    @abstractmethod
    def library(self) -> Library:
        """Return the library in use."""


def open_engine(settings: StorageSettings) -> Engine:
    """Make the engine that `DATABASE_URL` names. Raises DatabaseError for an engine that Giro does not know."""
    name = make_url(settings.database_url).get_backend_name()
    if name == "sqlite":
        from core.storage.sqlite.engine import Database

        return Database(settings)
    raise DatabaseError(f"DATABASE_URL: Giro does not know the engine {name}")
