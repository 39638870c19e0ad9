"""Running migrations: all in one transaction and one turn, unless a long one asks for commits in between."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import Script
from sqlalchemy import Connection

from core.failpoints import hit
from core.storage.engines import DatabaseError
from core.storage.sqlite.turnstile import Turnstile
from core.telemetry.logging import get_logger

log = get_logger("migrations")

ROWS = 20_000
"""Number of rows that a long migration moves before it commits: some megabytes of the log, and a part of a second."""

PROGRESS_SECONDS = 5.0
"""Shortest time between two lines about the progress of a migration."""


class Steps:
    """The migrations of one upgrade: their transactions, and their lines in the log.

    Migrations get this object from Alembic's options as `steps`. From revision 0017 on they use `rows`, `progress` and
    `commit`, so these must not change.
    """

    def __init__(self, connection: Connection, turnstile: Turnstile) -> None:
        self._connection = connection
        self._turnstile, self._turn = turnstile, ExitStack()
        self._before: str | None = None
        self._now: str | None = None
        self._started = self._since = time.perf_counter()
        self._told = float("-inf")
        self._count = 0
        self.rows = ROWS

    @contextmanager
    def transactions(self) -> Iterator[None]:
        """Begin the first transaction, and let the caller run the migrations and `finish` them."""
        with self._turn:
            self._begin()
            self._before = self._now = MigrationContext.configure(self._connection).get_current_revision()
            yield

    def ran(self, step: MigrationInfo) -> None:
        """Log one migration, which Alembic reports when it has run."""
        script, now = step.up_revision, time.perf_counter()
        assert isinstance(script, Script), "a migration, and no stamp"
        title = script.doc.rstrip(".")
        log.info("migration_ran", revision=script.revision, title=title, seconds=round(now - self._since, 3))
        self._now, self._since, self._count = script.revision, now, self._count + 1

    def progress(self, table: str, *, done: int, of: int) -> None:
        """Log how far the migration after the last one that ran is, unless that was logged a moment ago."""
        now = time.perf_counter()
        if now - self._told >= PROGRESS_SECONDS:
            self._told = now
            log.info("migration_progress", table=table, done=done, of=of, seconds=round(now - self._since, 3))

    def commit(self) -> None:
        """Commit what is done, and begin the next transaction.

        A migration that calls this runs again from its beginning after an interruption, and must find what it has done.
        Foreign keys are checked at the very end, so it must not break any meanwhile. Between the transactions a
        follower (core/storage/sqlite/log.py) gets its turn: otherwise the log would grow without bounds.
        """
        self._commit()
        self._begin()

    def finish(self) -> None:
        """Check the foreign keys, commit, and log that all of it is committed, or that there was nothing to do."""
        broken = self._connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
        if broken:
            raise DatabaseError(
                f"the migration would leave {len(broken)} rows that refer to missing rows; it was not finished"
            )
        self._commit()
        if self._count == 0:
            log.info("schema_current", revision=self._now)
            return
        seconds = round(time.perf_counter() - self._started, 3)
        log.info("schema_migrated", before=self._before, after=self._now, migrations=self._count, seconds=seconds)

    def _begin(self) -> None:
        self._turn.enter_context(self._turnstile.turn())
        self._connection.exec_driver_sql("BEGIN IMMEDIATE")

    def _commit(self) -> None:
        hit("migrate.before_commit")
        self._connection.exec_driver_sql("COMMIT")
        hit("migrate.after_commit")
        self._turn.close()
