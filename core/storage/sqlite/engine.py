"""SQLite as Giro's engine: one file, and one turnstile for all lanes."""

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import ClassVar

from sqlalchemy import Connection

from core.domain.lanes import Lane
from core.settings.groups.storage import StorageSettings
from core.storage.engines import Checkpoint, Engine, SettlerLock, Sizes
from core.storage.sqlite import commits, errors, integrity, schema, upkeep
from core.storage.sqlite.connections import SESSIONS, Connections
from core.storage.sqlite.glance import Glance
from core.storage.sqlite.turnstile import settlement_lock


class Database(Connections, Engine):
    """A SQLite file. Its one turnstile is both lanes, so a unit of work always holds both."""

    product: ClassVar[str] = "SQLite"
    sessions: ClassVar[int] = SESSIONS

    def __init__(self, settings: StorageSettings) -> None:
        Connections.__init__(self, settings)
        Engine.__init__(self)

    @property
    def place(self) -> str:
        return str(self.path)

    @property
    def folder(self) -> Path:
        return self.path.parent

    def exists(self) -> bool:
        return self.path.exists()

    def revision_in(self, connection: Connection) -> str | None:
        raw = connection.connection.driver_connection
        assert raw is not None
        # Read by the driver itself: that takes some 7 µs, and 100 through SQLAlchemy. Every unit of work pays it.
        row = raw.execute("SELECT version_num FROM alembic_version").fetchone()
        return row and str(row[0])

    def held(self, lanes: Collection[Lane]) -> frozenset[Lane]:
        return frozenset(Lane)

    @contextmanager
    def writing(self, lanes: Collection[Lane]) -> Iterator[Connection]:
        with self.turnstile.turn(), self.writer.connect() as connection:
            connection.begin()
            yield connection

    def undo_commit(self, connection: Connection) -> bool:
        return commits.undo(connection)

    def others_wait(self) -> bool:
        return self.turnstile.others_wait()

    def settler(self) -> SettlerLock:
        return settlement_lock(self.path)

    def reading(self) -> AbstractContextManager[Connection]:
        return self.reader.connect()

    def glance(self) -> Glance:
        return Glance(self)

    def error_name(self, error: Exception) -> str:
        return errors.primary_name(error)

    def is_unavailable(self, error: Exception) -> bool:
        return errors.is_unavailable(error)

    def is_damage(self, error: Exception) -> bool:
        return errors.is_damage(error)

    def schema_differences(self, connection: Connection) -> list[str]:
        return schema.differences(connection)

    def complaints(self, connection: Connection) -> Iterator[str]:
        for table in integrity.tables(connection):
            yield from integrity.complaints(connection, table)
            connection.rollback()

    def sizes(self) -> Sizes:
        return Sizes(upkeep.database_bytes(self), upkeep.wal_bytes(self))

    def checkpoint(self) -> Checkpoint:
        return upkeep.checkpoint(self)
