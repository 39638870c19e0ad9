"""The seam: which engine is opened, what a unit of work asks of it, and what SQLite answers."""

from collections.abc import Collection, Coroutine
from contextlib import AbstractContextManager, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from core.domain.lanes import Lane
from core.services.backups import making
from core.services.backups.manifests import BackupError
from core.settings import Settings
from core.storage.engines import DatabaseError, Engine, open_engine
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import add_user


def count_users(connection: Connection) -> int:
    count: int = connection.exec_driver_sql("SELECT count(*) FROM users").scalar_one()
    return count


# --- opening ---


def test_the_url_of_a_file_opens_sqlite(settings: Settings, database_file: Path) -> None:
    with closing(open_engine(settings)) as engine:
        engine.require_schema()
        assert (engine.product, engine.place, engine.folder) == ("SQLite", str(database_file), database_file.parent)


def test_an_unknown_engine_is_refused_by_its_name(settings: Settings) -> None:
    with pytest.raises(DatabaseError, match="does not know the engine mysql"):
        open_engine(settings.model_copy(update={"database_url": "mysql://host/giro"}))


def test_an_engine_exists_once_its_database_is_made(settings: Settings) -> None:
    database = Database(settings)
    assert not database.exists()
    database.create()
    assert database.exists()
    database.close()


# --- lanes ---


def test_a_unit_of_work_passes_its_lanes_to_the_engine(settings: Settings, database_file: Path) -> None:
    asked: list[set[Lane]] = []

    class Recording(Database):
        def writing(self, lanes: Collection[Lane]) -> AbstractContextManager[Connection]:
            asked.append(set(lanes))
            return super().writing(lanes)

    assert database_file.exists()
    with closing(Recording(settings)) as database:
        for lanes in ((), (Lane.SETTLE,), (Lane.ACCEPT, Lane.SETTLE)):
            with unit_of_work(database, *lanes):
                pass
    assert asked == [set(), {Lane.SETTLE}, {Lane.ACCEPT, Lane.SETTLE}]


@pytest.mark.parametrize("lanes", [(), (Lane.ACCEPT,), (Lane.SETTLE,)])
def test_the_one_turnstile_is_both_lanes(database: Database, lanes: tuple[Lane, ...]) -> None:
    assert database.held(lanes) == {Lane.ACCEPT, Lane.SETTLE}


def test_accepting_comes_before_settling() -> None:
    assert list(Lane) == [Lane.ACCEPT, Lane.SETTLE], (
        "an engine takes lanes in this order, or two writers could deadlock"
    )


# --- reading ---


def test_a_transaction_of_a_reader_is_one_snapshot(database: Database) -> None:
    with database.reading() as connection:
        before = count_users(connection)
        with unit_of_work(database) as writing:
            add_user(writing)
        assert count_users(connection) == before
        connection.rollback()
        assert count_users(connection) == before + 1


def test_a_reader_cannot_write(database: Database) -> None:
    with database.reading() as connection, pytest.raises(OperationalError, match="readonly"):
        connection.exec_driver_sql("UPDATE fences SET passed = 9")


def test_a_glance_answers_without_suspending(database: Database) -> None:
    glance = database.glance()

    def answer(call: Coroutine[Any, Any, Any]) -> Any:
        with pytest.raises(StopIteration) as done:
            call.send(None)
        return done.value.value

    assert answer(glance.oldest_pending()) is None
    assert answer(glance.identity(uuid4())) is None
    assert answer(glance.ended([uuid4()])) == []
    assert isinstance(answer(glance.data_version()), int)
    answer(glance.close())


def test_only_one_settler_has_the_lock(database: Database) -> None:
    with closing(database.settler()) as first, closing(database.settler()) as second:
        assert first.take("the first")
        assert not second.take("the second")
        assert "the first" in second.holder()


# --- upkeep ---


def test_the_sizes_are_those_of_the_files(database: Database) -> None:
    with unit_of_work(database) as connection:
        add_user(connection)
    sizes, log = database.sizes(), database.path.with_name(f"{database.path.name}-wal")
    assert (sizes.database, sizes.log) == (database.path.stat().st_size, log.stat().st_size)
    assert sizes.log > 0
    assert not database.checkpoint().blocked
    assert database.sizes().log == 0


def test_a_backup_of_another_engine_is_refused(settings: Settings, tmp_path: Path) -> None:
    other = cast(Engine, SimpleNamespace(product="Otherbase"))
    with pytest.raises(BackupError, match="Giro makes no backups of Otherbase"):
        making.make(settings, other, tmp_path, lambda *_: None)
