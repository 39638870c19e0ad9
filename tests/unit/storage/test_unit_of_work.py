"""The unit of work: all or nothing, one at a time, and the errors that are raised when the database fails.

Full disks and failed commits are real: the database reaches its page limit, or the kernel stops a file from growing.
"""

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from structlog.testing import capture_logs

from core.domain.errors import OutcomeUnknown, Unavailable
from core.files.locks import FileLock
from core.settings import Settings
from core.storage.engines import SCHEMA_REVISION
from core.storage.sqlite.engine import Database
from core.storage.sqlite.upkeep import checkpoint
from core.storage.unit_of_work import unit_of_work
from tests.builders import add_user, move_on, rows
from tests.counting import counted
from tests.waiting import eventually


def users(database: Database) -> int:
    count: int = rows(database, "SELECT count(*) AS n FROM users WHERE role <> 'system'")[0]["n"]
    return count


def fences_passed(database: Database) -> int:
    passed: int = rows(database, "SELECT passed FROM fences")[0]["passed"]
    return passed


def set_pragma(database: Database, pragma: str) -> None:
    """Set a pragma on the writing connection, outside any unit of work."""
    with closing(database.writer.raw_connection()) as holder:
        assert holder.driver_connection is not None
        holder.driver_connection.execute(f"PRAGMA {pragma}").fetchall()


def still_works(database: Database) -> bool:
    before = users(database)
    with unit_of_work(database) as connection:
        add_user(connection)
    return users(database) == before + 1


# --- all or nothing ----------------------------------------------------------------------------------------------


def test_writes_are_visible_once_they_are_committed(database: Database) -> None:
    with unit_of_work(database) as connection:
        add_user(connection)
        assert users(database) == 0, "it is not visible before"
    assert users(database) == 1


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_any_exception_rolls_everything_back(database: Database, error: type[BaseException]) -> None:
    with pytest.raises(error), unit_of_work(database) as connection:
        add_user(connection)
        raise error
    assert users(database) == 0
    assert still_works(database)


def test_it_has_the_turn_from_beginning_to_end(database: Database) -> None:
    lock = FileLock(database.path.with_name(f"{database.path.name}.write.lock"))
    with unit_of_work(database):
        assert not lock.try_acquire()
    assert lock.try_acquire()
    lock.close()


def test_an_invalid_statement_is_an_internal_error(database: Database) -> None:
    with pytest.raises(OperationalError, match="no such table"), unit_of_work(database) as connection:
        add_user(connection)
        connection.exec_driver_sql("SELECT * FROM nowhere")
    assert users(database) == 0
    assert still_works(database)


def test_a_broken_constraint_is_an_internal_error(database: Database) -> None:
    with pytest.raises(IntegrityError), unit_of_work(database) as connection:
        add_user(connection)
        connection.exec_driver_sql("INSERT INTO fences (id, passed) VALUES (2, 0)")
    assert users(database) == 0
    assert still_works(database)


# --- another version has migrated the database -------------------------------------------------------------------


@pytest.mark.parametrize("revision", ["9999", "0001"])
def test_nothing_is_written_under_another_schema(database: Database, revision: str) -> None:
    begun, told = False, []
    database.moved_on = lambda: told.append(1)
    move_on(database, revision)
    with capture_logs() as logged, pytest.raises(Unavailable), unit_of_work(database):
        begun = True
    assert (begun, told) == (False, [1])
    assert logged == [{"event": "schema_moved_on", "log_level": "error", "found": revision, "needed": SCHEMA_REVISION}]
    move_on(database, SCHEMA_REVISION)
    assert still_works(database), "no unit of work was left open"


def test_a_writer_whose_schema_changes_while_it_waits_writes_nothing(database: Database, settings: Settings) -> None:
    old = Database(settings)
    refused = threading.Event()

    def write() -> None:
        with suppress(Unavailable), unit_of_work(old) as connection:
            add_user(connection)
            return
        refused.set()

    with database.turnstile.turn():
        waiting = threading.Thread(target=write)
        waiting.start()
        eventually(database.turnstile.others_wait)
        with database.writer.begin() as connection:  # without a turn
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    waiting.join(30)
    assert refused.is_set()
    assert users(database) == 0
    old.close()


def test_a_schema_that_cannot_be_read_is_unavailable(database: Database) -> None:
    with database.writer.begin() as connection:
        page = connection.exec_driver_sql("SELECT rootpage FROM sqlite_master WHERE name = 'alembic_version'").scalar()
    checkpoint(database)
    database.close()
    with database.path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    before = counted("giro_database_errors_total", error="SQLITE_CORRUPT")
    with pytest.raises(Unavailable), unit_of_work(database):
        pass
    assert counted("giro_database_errors_total", error="SQLITE_CORRUPT") == before + 1


# --- metrics ---


def test_a_commit_is_timed_and_a_rollback_is_not(database: Database) -> None:
    before = counted("giro_commit_duration_seconds_count")
    with unit_of_work(database) as connection:
        add_user(connection)
    with pytest.raises(ZeroDivisionError), unit_of_work(database):
        raise ZeroDivisionError
    assert counted("giro_commit_duration_seconds_count") == before + 1


def test_a_commit_is_timed_without_the_work_before_it(database: Database) -> None:
    before = counted("giro_commit_duration_seconds_sum")
    with unit_of_work(database) as connection:
        add_user(connection)
        worked = time.perf_counter()
        while time.perf_counter() < worked + 0.5:
            pass
    assert counted("giro_commit_duration_seconds_sum") - before < 0.5


@pytest.mark.parametrize(
    ("error", "statement"),
    [
        ("SQLITE_ERROR", "SELECT * FROM nowhere"),
        ("SQLITE_CONSTRAINT", "INSERT INTO fences (id, passed) VALUES (2, 0)"),
        ("SQLITE_MISMATCH", "INSERT INTO fences (id, passed) VALUES ('one', 0)"),
    ],
)
def test_an_error_is_counted_by_its_primary_name_once(database: Database, error: str, statement: str) -> None:
    before = counted("giro_database_errors_total", error=error)
    with pytest.raises(DBAPIError), unit_of_work(database) as connection:
        connection.exec_driver_sql(statement)
    assert counted("giro_database_errors_total", error=error) == before + 1


def test_an_error_that_is_handled_inside_is_not_counted(database: Database) -> None:
    before = counted("giro_database_errors_total", error="SQLITE_CONSTRAINT")
    with unit_of_work(database) as connection, pytest.raises(IntegrityError):
        connection.exec_driver_sql("INSERT INTO fences (id, passed) VALUES (2, 0)")
    assert counted("giro_database_errors_total", error="SQLITE_CONSTRAINT") == before


@pytest.mark.parametrize("error", ["SQLITE_BUSY", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CORRUPT"])
def test_possible_errors_are_exported_at_zero_before_they_occur(error: str) -> None:
    assert REGISTRY.get_sample_value("giro_database_errors_total", {"error": error}) is not None


# --- the database fails ---


def test_a_locked_database_is_unavailable_and_nothing_has_begun(settings: Settings, database: Database) -> None:
    impatient = Database(settings.model_copy(update={"sqlite_busy_ms": 0}))
    begun, before = False, counted("giro_database_errors_total", error="SQLITE_BUSY")
    # A process that ignores the turnstile, for example an operator with a shell.
    with database.writer.begin(), pytest.raises(Unavailable), unit_of_work(impatient):
        begun = True
    assert not begun
    assert counted("giro_database_errors_total", error="SQLITE_BUSY") == before + 1
    assert still_works(impatient)
    impatient.close()


def test_a_read_only_database_is_unavailable(database: Database) -> None:
    set_pragma(database, "query_only=ON")
    with pytest.raises(Unavailable), unit_of_work(database) as connection:
        add_user(connection)
    set_pragma(database, "query_only=OFF")
    assert users(database) == 0
    assert still_works(database)


def test_a_full_database_is_unavailable_until_it_has_room(database: Database) -> None:
    set_pragma(database, "max_page_count=1")  # SQLite raises it to the current number of pages
    with pytest.raises(Unavailable), unit_of_work(database) as connection:
        add_user(connection)
        fill(connection)
    assert users(database) == 0
    set_pragma(database, "max_page_count=1000000")
    assert still_works(database)


def test_a_deleted_database_is_unavailable(settings: Settings) -> None:
    database = Database(settings)
    with pytest.raises(Unavailable), unit_of_work(database):
        pass
    assert not database.path.exists()
    database.close()


def test_an_invalid_database_file_is_unavailable(settings: Settings) -> None:
    database = Database(settings)
    database.path.parent.mkdir(parents=True)
    database.path.write_text("this is not a database " * 100)
    with pytest.raises(Unavailable), unit_of_work(database):
        pass
    database.close()


class Failure(Exception):
    """The driver's exception, with the attributes that our code reads."""

    def __init__(self, name: str | None) -> None:
        self.sqlite_errorname = name


@pytest.mark.parametrize(
    ("name", "unavailable"),
    [
        ("SQLITE_BUSY", True),
        ("SQLITE_BUSY_SNAPSHOT", True),
        ("SQLITE_LOCKED", True),
        ("SQLITE_READONLY", True),
        ("SQLITE_READONLY_DBMOVED", True),
        ("SQLITE_IOERR", True),
        ("SQLITE_IOERR_WRITE", True),
        ("SQLITE_FULL", True),
        ("SQLITE_CANTOPEN", True),
        ("SQLITE_CORRUPT", True),
        ("SQLITE_NOTADB", True),
        ("SQLITE_PROTOCOL", True),
        ("SQLITE_CONSTRAINT", False),
        ("SQLITE_CONSTRAINT_CHECK", False),
        ("SQLITE_ERROR", False),
        ("SQLITE_MISUSE", False),
        ("SQLITE_FULLY", False),
        ("", False),
        (None, False),
    ],
)
def test_errors_of_the_database_are_told_from_errors_of_our_statement(
    settings: Settings, name: str | None, unavailable: bool
) -> None:
    assert Database(settings).is_unavailable(DBAPIError("", {}, Failure(name))) is unavailable


# --- the commit itself fails -------------------------------------------------------------------------------------


def fill(connection: Connection, kilobytes: int = 400) -> None:
    """Write enough to need many pages."""
    for _ in range(kilobytes // 4):
        person = add_user(connection)
        connection.exec_driver_sql("UPDATE users SET name = ? WHERE id = ?", ("x" * 4000, person.id))


def wal(database: Database) -> Path:
    return database.path.with_name(f"{database.path.name}-wal")


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """Make the kernel stop every file of this process from growing beyond a size, in bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def with_a_log(database: Database) -> Database:
    """A database whose write-ahead log is so large that other files of the process fit below the limit."""
    with unit_of_work(database) as connection:
        fill(connection)
        connection.exec_driver_sql("DELETE FROM users WHERE role <> 'system'")
    return database


def test_a_failed_commit_is_unavailable_once_a_fence_has_passed(with_a_log: Database) -> None:
    before, room = fences_passed(with_a_log), 100_000
    errors = counted("giro_database_errors_total", error="SQLITE_IOERR")
    limit = files_limited_to(wal(with_a_log).stat().st_size + room)
    with pytest.raises(Unavailable), limit, unit_of_work(with_a_log) as connection:
        fill(connection)
    assert users(with_a_log) == 0
    assert fences_passed(with_a_log) == before + 1
    assert counted("giro_database_errors_total", error="SQLITE_IOERR") == errors + 1
    assert still_works(with_a_log)


def test_a_failed_commit_leaves_nothing_after_a_restart(with_a_log: Database, settings: Settings) -> None:
    limit = files_limited_to(wal(with_a_log).stat().st_size + 100_000)
    with pytest.raises(Unavailable), limit, unit_of_work(with_a_log) as connection:
        fill(connection)
    with_a_log.close()
    again = Database(settings)
    assert users(again) == 0
    assert still_works(again)
    again.close()


def test_a_failed_commit_is_unknown_if_the_fence_fails_too(with_a_log: Database) -> None:
    before, errors = fences_passed(with_a_log), counted("giro_database_errors_total", error="SQLITE_IOERR")
    limit = files_limited_to(wal(with_a_log).stat().st_size + 100)
    with pytest.raises(OutcomeUnknown), limit, unit_of_work(with_a_log) as connection:
        add_user(connection)
    assert fences_passed(with_a_log) == before
    assert counted("giro_database_errors_total", error="SQLITE_IOERR") == errors + 2, "the commit, and the fence"
    assert still_works(with_a_log), "no unit of work was left open"


def test_a_commit_rejected_by_a_deferred_constraint_leaves_nothing_open(database: Database) -> None:
    with pytest.raises(Unavailable), unit_of_work(database) as connection:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        connection.exec_driver_sql(
            "INSERT INTO refresh_tokens (user_id, family, digest, token_version, created_at, expires_at) "
            "VALUES (999, x'00', x'00', 0, 0, 0)"
        )
    assert rows(database, "SELECT * FROM refresh_tokens") == []
    assert fences_passed(database) == 1
    assert still_works(database)
