"""Alembic's environment: applies migrations while nothing else runs, on an asynchronous engine with Giro's settings.

Foreign keys are off while tables change (SQLite cannot switch inside a transaction) and checked before the commit.
"""

import asyncio
from contextlib import nullcontext

from alembic import context
from sqlalchemy import URL, Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

import core.storage.models
from core.processes.database_hold import alone
from core.settings import load_settings
from core.storage.sqlite.engine import Database, DatabaseError


async def run_migrations(database: Database) -> None:
    """Bring the database to the newest revision, in one transaction."""
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(database.path)),
        connect_args={"isolation_level": None},
        poolclass=NullPool,
    )
    try:
        async with engine.connect() as connection:
            await connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
            await connection.exec_driver_sql("PRAGMA synchronous=FULL")
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
            await connection.run_sync(_migrate)
            await connection.exec_driver_sql("COMMIT")
    finally:
        await engine.dispose()


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=core.storage.models.Base.metadata,
        transactional_ddl=False,
        render_as_batch=False,
    )
    context.run_migrations()
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if broken:
        raise DatabaseError(
            f"the migration would leave {len(broken)} rows that refer to missing rows; nothing was changed"
        )


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
    with _database.turnstile.turn():
        asyncio.run(run_migrations(_database))
_database.close()
