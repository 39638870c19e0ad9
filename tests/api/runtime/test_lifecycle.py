"""Starting and stopping: all resources are closed, and waiting clients are answered first."""

import asyncio
import gc
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import fakeredis
import pytest

from api.app import create_app
from core.processes import heartbeats
from core.settings import Settings
from core.storage.engines import DatabaseError
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.api.conftest import Api, Pair, Person, Start, payment, until
from tests.builders import move_on, rows


@pytest.fixture
def sigterm_ends_nothing() -> Iterator[list[int]]:
    """Replace the server's signal handler, and return the signals it got. Coverage's handler would end the tests."""
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: received.append(number))
    yield received
    signal.signal(signal.SIGTERM, before)


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


async def test_a_start_collects_garbage_and_a_stop_leaves_no_thread_or_heartbeat(
    settings: Settings, database_file: Path
) -> None:
    app, before = create_app(settings, queue=fakeredis.FakeRedis(server=fakeredis.FakeServer())), gc.get_freeze_count()
    async with app.router.lifespan_context(app):
        assert gc.get_freeze_count() > before
        assert {"writer", "waker", "heartbeat"} <= threads()
        assert heartbeats.path_of(settings.run_dir, "api").exists()
    assert not {"writer", "waker", "heartbeat"} & threads()
    assert not heartbeats.path_of(settings.run_dir, "api").exists()


async def test_a_failure_while_it_runs_leaves_no_thread_either(start: Start) -> None:
    with pytest.raises(ZeroDivisionError):
        async with start():
            raise ZeroDivisionError
    assert not {"writer", "waker", "heartbeat"} & threads()


async def test_a_database_at_another_migration_is_rejected_at_the_start(
    start: Start, settings: Settings, database: Database
) -> None:
    with unit_of_work(database) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    with pytest.raises(DatabaseError, match="giro migrate"):
        async with start():
            pass


async def test_a_missing_database_is_rejected_at_the_start_and_not_made(start: Start, database_file: Path) -> None:
    database_file.unlink()
    with pytest.raises(DatabaseError, match="there is no database"):
        async with start():
            pass
    assert not database_file.exists()


async def test_a_migration_by_another_version_stops_writes_and_ends_the_process(
    sigterm_ends_nothing: list[int], api: Api, ada: Person, pair: Pair, database: Database
) -> None:
    move_on(database)
    before = rows(database, "SELECT count(*) AS n FROM transfers")
    answer = await ada.post("/transfers", json=payment(pair.payer, pair.payee))
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    await until(lambda: signal.SIGTERM in sigterm_ends_nothing)
    assert rows(database, "SELECT count(*) AS n FROM transfers") == before
    assert (await ada.get(f"/accounts/{pair.payer['id']}")).status_code == 200, "reads work until the end"


async def test_a_stop_signal_lets_waiting_clients_be_answered(
    sigterm_ends_nothing: list[int], api: Api, ada: Person, pair: Pair
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    path = f"/transfers/{(await ada.pay(pair.payer, pair.payee))['id']}"
    waiting = asyncio.create_task(ada.get(path, headers={"Prefer": "wait=30"}))
    await until(lambda: bool(api.runtime.waiters._events))
    signal.raise_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        answer = await waiting
    assert (answer.status_code, answer.json()["status"]) == (200, "pending")
    assert signal.getsignal(signal.SIGTERM) is before


async def test_a_stop_restores_the_signal_handlers(start: Start) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    async with start():
        assert signal.getsignal(signal.SIGTERM) is not before[signal.SIGTERM]
    assert {number: signal.getsignal(number) for number in before} == before
