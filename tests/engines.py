"""The engines that tests run on: the database of a bank, opened as often as processes would open it."""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, ExitStack
from typing import Any, ClassVar

from sqlalchemy import Connection

from core.domain.lanes import Lane
from core.settings import Settings
from core.storage.engines import Engine, open_engine
from core.storage.sqlite.engine import Database

Wrap = Callable[[Engine], Engine]
"""Makes another engine of an engine, such as one that breaks a rule."""


def as_it_is(engine: Engine) -> Engine:
    """Change nothing about an engine."""
    return engine


class Site(ABC):
    """A migrated, empty database, and the engines that were opened on it."""

    def __init__(self, settings: Settings, wrap: Wrap = as_it_is) -> None:
        self._settings, self._wrap, self._opened = settings, wrap, ExitStack()
        self.engine = self.open()

    def open(self) -> Engine:
        """Open the database as one more process would. The site closes it."""
        engine = self._wrap(open_engine(self._settings))
        self._opened.callback(engine.close)
        return engine

    def close(self) -> None:
        """Close every engine."""
        self._opened.close()

    @abstractmethod
    def refuse_commits(self, connection: Connection, *, times: float) -> None:
        """Let the database refuse the next commits of a writing connection."""

    @abstractmethod
    def remove_triggers(self) -> None:
        """Remove all triggers, as another program could."""

    def change(self, statement: str) -> None:
        """Run a statement and commit it, outside any unit of work of Giro."""
        with self.engine.writing(tuple(Lane)) as connection:
            connection.exec_driver_sql(statement)
            connection.commit()


class SqliteSite(Site):
    """A database of SQLite, whose failures can be brought about."""

    def refuse_commits(self, connection: Connection, *, times: float) -> None:
        refused = 0

        def authorise(action: int, word: str | None, *_: Any) -> int:
            nonlocal refused
            if action == sqlite3.SQLITE_TRANSACTION and word == "COMMIT" and refused < times:
                refused += 1
                return sqlite3.SQLITE_DENY
            return sqlite3.SQLITE_OK

        raw: Any = connection.connection.driver_connection
        raw.set_authorizer(authorise)

    def remove_triggers(self) -> None:
        with self.engine.reading() as connection:
            names = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").scalars().all()
        for name in names:
            self.change(f"DROP TRIGGER {name}")


SITES = {"sqlite": SqliteSite}
"""The site of each engine, by the name in `DATABASE_URL`."""

NewSite = Callable[..., Site]
"""Makes a site, whose engines may be wrapped."""


class LanesApart(Database):
    """SQLite as an engine on which a unit of work holds only the lanes that it asked for."""

    asked: ClassVar[list[set[Lane]]]

    def held(self, lanes: Collection[Lane]) -> frozenset[Lane]:
        return frozenset(lanes)

    def writing(self, lanes: Collection[Lane]) -> AbstractContextManager[Connection]:
        self.asked.append(set(lanes))
        return super().writing(lanes)
