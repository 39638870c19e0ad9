"""Opening the database: the check of SQLite's version, the settings of every connection, and read-only readers."""

import asyncio
import os
import re
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from threading import enumerate as enumerate_threads
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

import core
from core.cli import apply_migrations
from core.settings import Settings, load_settings
from core.storage.engines import SCHEMA_REVISION, DatabaseError
from core.storage.sqlite import connections
from core.storage.sqlite.connections import is_affected
from core.storage.sqlite.engine import Database
from core.storage.sqlite.upkeep import checkpoint, wal_bytes
from core.storage.unit_of_work import unit_of_work
from tests.builders import add_user, bank_of_two
from tests.waiting import eventually

HOME = Path(core.__file__).parent.parent


# --- the check of the version ---


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ("3.6.23", False),
        ("3.7.0", True),
        ("3.7.17", True),
        ("3.40.1", True),
        ("3.43.2", True),
        ("3.44.0", True),
        ("3.44.5", True),
        ("3.44.6", False),
        ("3.44.9", False),
        ("3.45.0", True),
        ("3.45.1", True),
        ("3.46.1", True),
        ("3.49.2", True),
        ("3.50.0", True),
        ("3.50.6", True),
        ("3.50.7", False),
        ("3.50.10", False),
        ("3.51.0", True),
        ("3.51.2", True),
        ("3.51.3", False),
        ("3.51.10", False),
        ("3.52.0", False),
        ("3.53.4", False),
        ("3.100.0", False),
        ("4.0.0", False),
    ],
)
def test_versions_of_sqlite_with_the_wal_reset_bug_are_recognised(version: str, affected: bool) -> None:
    assert is_affected(version) is affected


VERSION = "SELECT sqlite_version()"


async def test_the_library_behind_every_engine_is_not_affected(database: Database) -> None:
    with database.writer.connect() as connection:
        versions = {connection.exec_driver_sql(VERSION).scalar_one()}
    with database.reader.connect() as connection:
        versions.add(connection.exec_driver_sql(VERSION).scalar_one())
    async with database.async_reader.connect() as asynchronous:
        versions.add((await asynchronous.exec_driver_sql(VERSION)).scalar_one())
    await database.async_reader.dispose()
    assert len(versions) == 1, "one library opens the file"
    assert not is_affected(versions.pop())


def test_the_database_reports_the_library_that_it_uses(database: Database) -> None:
    library = database.library()
    assert re.fullmatch(r"3\.\d+\.\d+", library.version)
    assert not library.is_affected


def pretend(monkeypatch: pytest.MonkeyPatch, *, wheel: bool) -> None:
    monkeypatch.setattr(connections, "is_affected", lambda _version: True)
    monkeypatch.setattr(connections, "no_wheel_exists", lambda: not wheel)


def test_an_affected_library_is_rejected(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, wheel=True)
    for opened in (database.writer, database.reader):
        with pytest.raises(DatabaseError, match="WAL-reset bug"):
            opened.connect()


def test_on_a_platform_without_a_wheel_an_affected_library_opens_with_a_warning(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, wheel=False)
    warnings: list[str] = []
    monkeypatch.setattr(
        connections, "log", type("Log", (), {"warning": lambda _self, event, **_: warnings.append(event)})()
    )
    with database.reader.connect():
        pass
    assert warnings == ["sqlite_affected"]
    assert database.library().is_affected


@pytest.mark.parametrize(
    ("platform", "machine", "missing"),
    [
        ("linux", "aarch64", True),
        ("linux", "x86_64", False),
        ("darwin", "arm64", False),
        ("win32", "AMD64", False),
    ],
)
def test_only_one_platform_has_no_wheel(
    monkeypatch: pytest.MonkeyPatch, platform: str, machine: str, missing: bool
) -> None:
    monkeypatch.setattr(connections.sys, "platform", platform)
    monkeypatch.setattr(connections.platform, "machine", lambda: machine)
    assert connections.no_wheel_exists() is missing


# --- settings of the connections ---------------------------------------------------------------------------------


def pragma(connection: Any, name: str) -> Any:
    return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()


EVERYWHERE = {"busy_timeout": 5000, "cache_size": -256 * 1024, "trusted_schema": 0, "journal_mode": "wal"}
WRITER = EVERYWHERE | {"synchronous": 2, "foreign_keys": 1, "wal_autocheckpoint": 2000, "query_only": 0}
READER = EVERYWHERE | {"query_only": 1, "wal_autocheckpoint": 0}


def test_the_writer_commits_to_disk_and_checks_foreign_keys(database: Database) -> None:
    with database.writer.connect() as connection:
        assert {name: pragma(connection, name) for name in WRITER} == WRITER


def test_a_reader_is_read_only(database: Database) -> None:
    with database.reader.connect() as connection:
        assert {name: pragma(connection, name) for name in READER} == READER


async def test_an_asynchronous_reader_is_read_only(database: Database) -> None:
    async with database.async_reader.connect() as connection:
        seen = await connection.run_sync(lambda sync: {name: pragma(sync, name) for name in READER})
    await database.async_reader.dispose()
    assert seen == READER | {"cache_size": -8 * 1024}, "eight of them are open, and each could cache the whole ledger"


def test_the_timeout_and_the_cache_are_settings(settings: Settings, database_file: Path) -> None:
    database = Database(settings.model_copy(update={"sqlite_busy_ms": 1234, "sqlite_cache_mb": 3}))
    for opened in (database.writer, database.reader):
        with opened.connect() as connection:
            assert (pragma(connection, "busy_timeout"), pragma(connection, "cache_size")) == (1234, -3072)
    database.close()


WRITES = [
    "UPDATE fences SET passed = 9",
    "INSERT INTO fences (id, passed) VALUES (2, 0)",
    "DELETE FROM fences",
    "CREATE TABLE extra (id INTEGER)",
    "DROP TABLE fences",
]


@pytest.mark.parametrize("statement", WRITES)
def test_a_reader_cannot_write(database: Database, statement: str) -> None:
    with database.reader.connect() as connection, pytest.raises(OperationalError, match="readonly"):
        connection.exec_driver_sql(statement)


async def test_an_asynchronous_reader_cannot_write(database: Database) -> None:
    async with database.async_reader.connect() as connection:
        with pytest.raises(OperationalError, match="readonly"):
            await connection.exec_driver_sql(WRITES[0])
    await database.async_reader.dispose()


def test_a_reader_sees_one_snapshot_despite_later_commits(database: Database) -> None:
    count = "SELECT count(*) FROM users"
    with database.reader.connect() as connection:
        before = connection.exec_driver_sql(count).scalar_one()
        with unit_of_work(database) as writing:
            add_user(writing)
        assert connection.exec_driver_sql(count).scalar_one() == before
    with database.reader.connect() as connection:
        assert connection.exec_driver_sql(count).scalar_one() == before + 1


def test_a_unit_of_work_locks_before_it_reads(database: Database, settings: Settings) -> None:
    impatient = Database(settings.model_copy(update={"sqlite_busy_ms": 0}))
    with database.writer.begin(), pytest.raises(DBAPIError, match="locked"):
        impatient.writer.connect().begin()
    impatient.close()


# --- the file ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def nowhere(settings: Settings) -> AsyncIterator[Database]:
    """The settings of a database that does not exist."""
    database = Database(settings)
    yield database
    await database.async_reader.dispose()
    database.close()


async def test_opening_a_missing_database_does_not_create_it(nowhere: Database) -> None:
    nowhere.path.parent.mkdir(parents=True)
    for opened in (nowhere.reader, nowhere.writer):
        with pytest.raises(OperationalError, match="unable to open"):
            opened.connect()
    with pytest.raises(OperationalError, match="unable to open"):
        async with nowhere.async_reader.connect():
            pass
    await asyncio.to_thread(eventually, lambda: not any("_connection_worker" in t.name for t in enumerate_threads()))
    assert list(nowhere.path.parent.iterdir()) == []


async def test_only_the_owner_can_open_a_new_database(nowhere: Database) -> None:
    umask = os.umask(0)
    try:
        nowhere.create()
        with nowhere.writer.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE something (id INTEGER)")
        made = {item.name: stat.S_IMODE(item.stat().st_mode) for item in nowhere.path.parent.iterdir()}
    finally:
        os.umask(umask)
    assert {"banking.db", "banking.db-wal", "banking.db-shm"} <= made.keys()
    assert set(made.values()) == {0o600}
    assert stat.S_IMODE(nowhere.path.parent.stat().st_mode) == 0o700


def test_creating_an_existing_database_changes_nothing(database: Database) -> None:
    with unit_of_work(database) as connection:
        add_user(connection)
    database.create()
    with database.reader.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM users").scalar_one() == 2


async def path_of_the_asynchronous_reader(database: Database) -> str:
    async with database.async_reader.connect() as connection:
        path: str = (await connection.exec_driver_sql("PRAGMA database_list")).one()[2]
    await database.async_reader.dispose()
    return path


@pytest.mark.usefixtures("as_it_was")
@pytest.mark.parametrize("folder", ["what? now", "c#", "100%", "50%25", "ä folder & more", "a+b=c", "file:x"])
def test_the_path_can_contain_special_characters_of_urls(
    settings: Settings, clean_environment: pytest.MonkeyPatch, tmp_path: Path, folder: str
) -> None:
    clean_environment.setenv("GIRO_DATA_DIR", folder)
    settings = load_settings()
    path = tmp_path / folder / "banking.db"
    apply_migrations()
    database = Database(settings)
    listed = "PRAGMA database_list"
    for opened in (database.writer, database.reader):
        with opened.connect() as connection:
            assert connection.exec_driver_sql(listed).one()[2] == str(path)
    assert asyncio.run(path_of_the_asynchronous_reader(database)) == str(path)
    database.require_schema()
    database.close()
    assert [item.name for item in tmp_path.iterdir()] == [folder]


def test_nothing_is_opened_before_use_and_closing_can_be_repeated(database_file: Path, settings: Settings) -> None:
    database = Database(settings)
    database.close()
    assert {item.name for item in database_file.parent.iterdir()} == {"banking.db"}
    with database.reader.connect():
        pass
    database.close()
    database.close()


def test_a_checkpoint_empties_the_log(database: Database) -> None:
    assert wal_bytes(database) == 0
    with unit_of_work(database) as connection:
        add_user(connection)
    assert wal_bytes(database) > 0
    done = checkpoint(database)
    assert done.blocked is False
    assert wal_bytes(database) == 0


def test_a_checkpoint_reports_a_reader_that_prevents_its_completion(database_file: Path, settings: Settings) -> None:
    database = Database(settings.model_copy(update={"sqlite_busy_ms": 1}))
    with database.reader.connect() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM users").scalar_one()
        with unit_of_work(database) as writing:
            add_user(writing)
        assert checkpoint(database).blocked is True
    database.close()


# --- the schema --------------------------------------------------------------------------------------------------


def test_the_code_needs_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(HOME / "migrations"))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA_REVISION]


def test_a_migrated_database_is_ready(database: Database) -> None:
    assert database.schema_revision() == SCHEMA_REVISION
    database.require_schema()


async def test_the_message_for_a_missing_database_explains_how_to_create_it(nowhere: Database) -> None:
    for look in (nowhere.schema_revision, nowhere.require_schema):
        with pytest.raises(DatabaseError, match=r"there is no database at .*banking\.db; `giro migrate` makes it"):
            look()
    assert not nowhere.path.exists()


async def test_an_empty_database_has_no_migration(nowhere: Database) -> None:
    nowhere.create()
    assert nowhere.schema_revision() is None
    with pytest.raises(DatabaseError, match="has no schema yet: run `giro migrate`"):
        nowhere.require_schema()


@pytest.mark.parametrize(
    ("revision", "words"),
    [("0001", "this Giro needs .*: run `giro migrate`"), ("9999", "from a newer Giro; this one knows those up to ")],
)
def test_a_database_of_another_version_is_rejected(database: Database, revision: str, words: str) -> None:
    with unit_of_work(database) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = ?", (revision,))
    assert not database.is_current(database.schema_revision())
    with pytest.raises(DatabaseError, match=f"at migration {revision}, {words}"):
        database.require_schema()


async def test_an_invalid_database_file_is_reported_in_one_line(nowhere: Database) -> None:
    nowhere.path.parent.mkdir(parents=True)
    nowhere.path.write_text("not a database at all, and long enough for a header of one" * 20)
    with pytest.raises(DatabaseError, match=r"banking\.db: file is not a database"):
        nowhere.require_schema()


def test_a_row_of_the_ledger_cannot_be_replaced(database: Database) -> None:
    bank_of_two(database, ada_has=500)
    for table in ("transfers", "transactions"):
        with pytest.raises(IntegrityError, match="never"), unit_of_work(database) as connection:
            connection.exec_driver_sql(f"INSERT OR REPLACE INTO {table} SELECT * FROM {table} WHERE id = 1")


def test_an_error_of_a_write_does_not_contain_the_values(database: Database) -> None:
    with pytest.raises(IntegrityError) as failed, unit_of_work(database) as connection:
        connection.exec_driver_sql("INSERT INTO users (id, email) VALUES (?, ?)", (7, "ada@example.com"))
    assert "INSERT INTO users" in str(failed.value)
    assert "ada@example.com" not in str(failed.value)


async def test_an_error_of_a_query_does_not_contain_the_values(database: Database) -> None:
    async with AsyncSession(database.async_reader) as session:
        with pytest.raises(OperationalError) as failed:
            await session.execute(text("SELECT :email FROM nowhere"), {"email": "ada@example.com"})
    await database.async_reader.dispose()
    assert "ada@example.com" not in str(failed.value)
