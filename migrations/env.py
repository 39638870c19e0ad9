"""Alembic's environment: applies migrations while nothing else runs, on an asynchronous engine with Giro's settings.

Foreign keys are off while tables change (SQLite cannot switch inside a transaction) and checked before the commit.
"""

import asyncio
import time
from contextlib import nullcontext

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import Script
from sqlalchemy import URL, Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

import core.storage.models
from core.processes.database_hold import alone
from core.settings import load_settings
from core.storage.engines import DatabaseError
from core.storage.sqlite.engine import Database
from core.telemetry.logging import get_logger

log = get_logger("migrations")


class Steps:
    """Writes each migration to the log when it has run, and at the end what the whole upgrade did."""

    def __init__(self, before: str | None) -> None:
        self._before = self._now = before
        self._started = self._since = time.perf_counter()
        self._count = 0

    def ran(self, step: MigrationInfo) -> None:
        """Log one migration, which Alembic reports when it has run."""
        script, now = step.up_revision, time.perf_counter()
        assert isinstance(script, Script), "a migration, and no stamp"
        title = script.doc.rstrip(".")
        log.info("migration_ran", revision=script.revision, title=title, seconds=round(now - self._since, 3))
        self._now, self._since, self._count = script.revision, now, self._count + 1

    def committed(self) -> None:
        """Log that all of it is committed, or that there was nothing to do."""
        if self._count == 0:
            log.info("schema_current", revision=self._now)
            return
        seconds = round(time.perf_counter() - self._started, 3)
        log.info("schema_migrated", before=self._before, after=self._now, migrations=self._count, seconds=seconds)


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
            steps = await connection.run_sync(_migrate)
            await connection.exec_driver_sql("COMMIT")
            steps.committed()
    finally:
        await engine.dispose()


def _migrate(connection: Connection) -> Steps:
    steps = Steps(MigrationContext.configure(connection).get_current_revision())
    context.configure(
        connection=connection,
        target_metadata=core.storage.models.Base.metadata,
        transactional_ddl=False,
        render_as_batch=False,
        on_version_apply=lambda ctx, step, heads, run_args: steps.ran(step),
    )
    context.run_migrations()
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if broken:
        raise DatabaseError(
            f"the migration would leave {len(broken)} rows that refer to missing rows; nothing was changed"
        )
    return steps


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
