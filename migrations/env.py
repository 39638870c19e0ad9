"""Alembic's environment: applies migrations while nothing else runs, on an asynchronous engine with Giro's settings.

Foreign keys are off while tables change (SQLite cannot switch inside a transaction) and checked before the last commit.
"""

import asyncio
from contextlib import nullcontext

from alembic import context
from alembic.util import CommandError
from sqlalchemy import URL, Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

import core.storage.models
from core.processes.database_hold import alone
from core.settings import load_settings
from core.storage.engines import DatabaseError
from core.storage.sqlite.engine import Database
from core.storage.sqlite.migrating import Steps


async def run_migrations(database: Database) -> None:
    """Bring the database to the newest revision, in one transaction unless a migration commits in between."""
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(database.path)),
        connect_args={"isolation_level": None},
        poolclass=NullPool,
    )
    try:
        async with engine.connect() as connection:
            await connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
            await connection.exec_driver_sql("PRAGMA synchronous=FULL")
            await connection.run_sync(_migrate, database)
    except CommandError as refusal:  # a migration cannot import Giro's own errors
        raise DatabaseError(str(refusal)) from refusal
    finally:
        await engine.dispose()


def _migrate(connection: Connection, database: Database) -> None:
    steps = Steps(connection, database.turnstile)
    with steps.transactions():
        context.configure(
            connection=connection,
            target_metadata=core.storage.models.Base.metadata,
            transactional_ddl=False,
            render_as_batch=False,
            on_version_apply=lambda ctx, step, heads, run_args: steps.ran(step),
            steps=steps,
        )
        context.run_migrations()
        steps.finish()


if context.is_offline_mode():
    raise DatabaseError("Giro's migrations need the database: run them without --sql")

_settings = context.config.attributes.get("settings") or load_settings()
_held = context.config.attributes.get("held", False)
_database = Database(_settings)
if _database.path.exists():
    _database.refuse_newer_schema(_database.schema_revision())
# Nothing may run meanwhile: a process of an older version would continue to write rows for the old schema.
with nullcontext() if _held else alone(_settings, "a migration"):
    _database.create()
    asyncio.run(run_migrations(_database))
_database.close()
