"""The models and the migrations create the same database: tables, CHECKs, partial indexes, triggers and STRICT.

`alembic check` ignores the last four, so the test compares SQLite's own schema of both.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import core
from core.settings import Settings
from core.storage.engines import SCHEMA_REVISION
from core.storage.sqlite import schema
from core.storage.sqlite.engine import Database
from core.storage.sqlite.turnstile import settlement_lock
from tests.builders import rows

HOME = Path(core.__file__).parent.parent


def test_models_and_migrations_create_the_same_database(database: Database) -> None:
    with database.reader.connect() as connection:
        of_the_migrations = schema.read(connection)
    assert of_the_migrations.keys() == schema.expected().keys()
    for name, sql in schema.expected().items():
        assert of_the_migrations[name] == sql, name


def test_the_comparison_sees_checks_triggers_partial_indexes_and_strict() -> None:
    everything = "\n".join(schema.expected().values())
    for word in ("CHECK(", "CREATE TRIGGER", "WHERE payer_id IS NOT NULL", "STRICT", "REFERENCES", "UNIQUE"):
        assert word in everything


def test_migrations_leave_no_dangling_references(database: Database) -> None:
    assert rows(database, "PRAGMA foreign_key_check") == []
    assert rows(database, "PRAGMA integrity_check") == [{"integrity_check": "ok"}]


@pytest.fixture
def alembic(clean_environment: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Alembic's own command line, with the data folder only from the environment."""
    clean_environment.setenv("GIRO_DATA_DIR", str(tmp_path / "new" / "data"))
    return [sys.executable, "-m", "alembic", "-c", str(HOME / "alembic.ini")]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=HOME, env=os.environ, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.processes
def test_alembic_upgrade_head_works_by_itself_and_can_be_repeated(
    alembic: list[str], tmp_path: Path, settings: Settings
) -> None:
    for _ in range(2):
        done = run(*alembic, "upgrade", "head")
        assert done.returncode == 0, done.stderr
    database = Database(settings)
    database.path = tmp_path / "new" / "data" / "banking.db"
    assert database.schema_revision() == SCHEMA_REVISION
    assert rows(database, "PRAGMA foreign_key_check") == []
    database.close()


@pytest.mark.processes
def test_alembic_upgrade_head_changes_nothing_while_a_settlement_worker_runs(
    alembic: list[str], tmp_path: Path
) -> None:
    data = tmp_path / "new" / "data"
    data.mkdir(parents=True)
    lock = settlement_lock(data / "banking.db")
    assert lock.take("the settlement worker")
    done = run(*alembic, "upgrade", "head")
    lock.close()
    assert done.returncode != 0
    assert f"held by another Giro: process {os.getpid()} on " in done.stderr
    assert not (data / "banking.db").exists()


def test_migrations_without_a_database_are_refused(alembic: list[str], tmp_path: Path) -> None:
    done = run(*alembic, "upgrade", "head", "--sql")
    assert done.returncode != 0
    assert "run them without --sql" in done.stderr
    assert not (tmp_path / "new").exists()
