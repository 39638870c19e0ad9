"""The settlement actor: a message means "look", and nothing more."""

import threading

import pytest
from dramatiq import Worker
from dramatiq.brokers.redis import RedisBroker
from fakeredis import FakeServer
from prometheus_client import REGISTRY

from core.domain.errors import Unavailable
from core.domain.transfers import TransferStatus
from core.queue.messages import SETTLE, SETTLEMENT_QUEUE, message
from core.queue.wakeups import WAKE_KEY, send_wakeup
from core.settings import Settings
from core.storage.sqlite.engine import Database
from tests.builders import accepted, bank_of_two, from_ada_to_bob, move_on, status_of
from tests.waiting import eventually
from workers.jobs import settlement


def test_a_wakeup_settles_what_is_pending(database: Database, broker: RedisBroker) -> None:
    bank = bank_of_two(database, ada_has=500)
    transfer = accepted(database, from_ada_to_bob(bank))
    worker = Worker(broker, queues={SETTLEMENT_QUEUE}, worker_threads=1, worker_timeout=20)
    worker.start()
    try:
        send_wakeup(broker)
        eventually(lambda: status_of(database, transfer) is TransferStatus.COMPLETED)
    finally:
        worker.stop()


def test_a_worker_settles_at_its_start_what_nobody_sent_a_message_for(database: Database, broker: RedisBroker) -> None:
    bank = bank_of_two(database, ada_has=500)
    transfer = accepted(database, from_ada_to_bob(bank))
    worker = Worker(broker, queues={SETTLEMENT_QUEUE}, worker_threads=1, worker_timeout=20)
    worker.start()
    worker.stop()
    assert status_of(database, transfer) is TransferStatus.COMPLETED


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((1, 2, 3), {}), ((), {"amount": -5}), (("x" * 10_000,), {"transfer_id": None}), (([{}],), {"stop": 1})],
)
def test_whatever_a_forged_message_says_it_means_no_more_than_look(
    database: Database, broker: RedisBroker, args: tuple[object, ...], kwargs: dict[str, object]
) -> None:
    bank = bank_of_two(database, ada_has=500)
    transfer = accepted(database, from_ada_to_bob(bank))
    broker.get_actor(SETTLE)(*args, **kwargs)
    assert status_of(database, transfer) is TransferStatus.COMPLETED


def test_a_worker_settles_nothing_once_another_version_has_migrated_the_database(
    database: Database, broker: RedisBroker
) -> None:
    bank = bank_of_two(database, ada_has=500)
    transfer = accepted(database, from_ada_to_bob(bank))
    before, told = _legs(database), threading.Event()
    database.moved_on = told.set
    move_on(database)
    broker.get_actor(SETTLE)()
    assert told.is_set()
    assert status_of(database, transfer) is TransferStatus.PENDING
    assert _legs(database) == before


def test_a_message_delivered_twice_settles_once(database: Database, broker: RedisBroker) -> None:
    bank = bank_of_two(database, ada_has=500)
    accepted(database, from_ada_to_bob(bank))
    settle = broker.get_actor(SETTLE)
    settle()
    before = _legs(database)
    settle()
    assert _legs(database) == before


def test_the_next_wakeup_is_let_through_before_the_first_read(
    database: Database,
    broker: RedisBroker,
    settings: Settings,
    stop: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send_wakeup(broker)
    keys_at_first_read = []

    def note(*_args: object, **_options: object) -> int:
        keys_at_first_read.append(broker.client.exists(WAKE_KEY))
        return 0

    monkeypatch.setattr(settlement, "settle_pending", note)
    settlement.settle(broker, database, settings, stop)
    assert keys_at_first_read == [0]


@pytest.mark.parametrize(("error", "counted"), [(Unavailable, 0), (ZeroDivisionError, 1)])
def test_a_settlement_that_fails_raises_nothing_and_only_what_nobody_expected_is_counted(
    database: Database, broker: RedisBroker, monkeypatch: pytest.MonkeyPatch, error: type[Exception], counted: int
) -> None:
    bank = bank_of_two(database, ada_has=500)
    transfer = accepted(database, from_ada_to_bob(bank))

    def fail(*_args: object, **_options: object) -> int:
        raise error

    before = _unhandled()
    with monkeypatch.context() as patch:
        patch.setattr(settlement, "settle_pending", fail)
        broker.get_actor(SETTLE)()
    assert _unhandled() == before + counted
    broker.get_actor(SETTLE)()
    assert status_of(database, transfer) is TransferStatus.COMPLETED


def test_settling_goes_on_while_the_queue_is_away(
    database: Database, broker: RedisBroker, settings: Settings, stop: threading.Event, server: FakeServer
) -> None:
    bank = bank_of_two(database, ada_has=500)
    transfer = accepted(database, from_ada_to_bob(bank))
    server.connected = False
    assert settlement.settle(broker, database, settings, stop) == 1
    assert status_of(database, transfer) is TransferStatus.COMPLETED


def test_a_message_for_an_actor_that_does_not_exist_does_not_stop_the_next(
    database: Database, broker: RedisBroker
) -> None:
    bank = bank_of_two(database, ada_has=500)
    worker = Worker(broker, queues={SETTLEMENT_QUEUE}, worker_threads=1, worker_timeout=20)
    worker.start()
    try:
        broker.enqueue(message("no_such_actor", SETTLEMENT_QUEUE))
        transfer = accepted(database, from_ada_to_bob(bank))
        send_wakeup(broker)
        eventually(lambda: status_of(database, transfer) is TransferStatus.COMPLETED)
    finally:
        worker.stop()


def _legs(database: Database) -> list[tuple[object, ...]]:
    with database.reader.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql("SELECT * FROM transactions ORDER BY id")]


def _unhandled() -> float:
    return REGISTRY.get_sample_value("giro_unhandled_exceptions_total") or 0.0
