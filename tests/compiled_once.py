"""SQLAlchemy's dialects of SQLite for tests: all engines of a process share the statements that one has compiled.

An engine compiles each statement at its first use, which takes about a millisecond. A process of the service has few
engines for weeks, but each test opens its own.
"""

from typing import Any

from sqlalchemy import Engine
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

COMPILED: dict[Any, Any] = {}
"""The compiled statements, by statement and dialect."""


class Sharing:
    """A dialect that is equal to every other one of its class, because all engines of Giro are made in the same way."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    @classmethod
    def engine_created(cls, engine: Engine) -> None:
        """Give a new engine the statements of all others."""
        engine.update_execution_options(compiled_cache=COMPILED)


class Synchronous(Sharing, SQLiteDialect_pysqlite):
    """The dialect of writers and readers."""

    supports_statement_cache = True


class Asynchronous(Sharing, SQLiteDialect_aiosqlite):
    """The dialect of the API's reading sessions."""

    supports_statement_cache = True


def share_compiled_statements() -> None:
    """Replace the dialects of engines that are made from now on."""
    registry.register("sqlite", __name__, Synchronous.__name__)
    registry.register("sqlite.aiosqlite", __name__, Asynchronous.__name__)
