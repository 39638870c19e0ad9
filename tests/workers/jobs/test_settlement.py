"""The settlement actor: a message only means "look for pending transfers"."""

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


def test_wakeup_settles_pending_transfers(database: Database, broker: RedisBroker) -> None:
    bank = bank_of_two(database, ada_has=500)
    transfer = accepted(database, from_ada_to_bob(bank))
    worker = Worker(broker, queues={SETTLEMENT_QUEUE}, worker_threads=1, worker_timeout=20)
    worker.start()
    try:
        send_wakeup(broker)
        eventually(lambda: status_of(database, transfer) is TransferStatus.COMPLETED)
    finally:
        worker.stop()


def test_worker_settles_pending_transfers_at_its_start(database: Database, broker: RedisBroker) -> None:
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
def test_forged_message_only_means_look(
    database: Database, broker: RedisBroker, args: tuple[object, ...], kwargs: dict[str, object]
) -> None:
    bank = bank_of_two(database, ada_has=500)
    transfer = accepted(database, from_ada_to_bob(bank))
    broker.get_actor(SETTLE)(*args, **kwargs)
    assert status_of(database, transfer) is TransferStatus.COMPLETED


def test_worker_settles_nothing_after_a_migration_by_another_version(database: Database, broker: RedisBroker) -> None:
    bank = bank_of_two(database, ada_has=500)
    transfer = accepted(database, from_ada_to_bob(bank))
    before, told = _legs(database), threading.Event()
    database.moved_on = told.set
    move_on(database)
    broker.get_actor(SETTLE)()
    assert told.is_set()
    assert status_of(database, transfer) is TransferStatus.PENDING
    assert _legs(database) == before


def test_message_delivered_twice_settles_once(database: Database, broker: RedisBroker) -> None:
    bank = bank_of_two(database, ada_has=500)
    accepted(database, from_ada_to_bob(bank))
    settle = broker.get_actor(SETTLE)
    settle()
    before = _legs(database)
    settle()
    assert _legs(database) == before


def test_next_wakeup_is_allowed_before_the_first_read(
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
    settlement.Settling(database, settings, stop).on_message(broker)
    assert keys_at_first_read == [0]


@pytest.mark.parametrize(("error", "counted"), [(Unavailable, 0), (ZeroDivisionError, 1)])
def test_failed_settlement_raises_nothing_and_only_unexpected_errors_are_counted(
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


def test_settlement_continues_without_the_queue(
    database: Database, broker: RedisBroker, settings: Settings, stop: threading.Event, server: FakeServer
) -> None:
    bank = bank_of_two(database, ada_has=500)
    transfer = accepted(database, from_ada_to_bob(bank))
    server.connected = False
    assert settlement.Settling(database, settings, stop).on_message(broker) == 1
    assert status_of(database, transfer) is TransferStatus.COMPLETED


def test_message_for_an_unknown_actor_does_not_stop_the_next(database: Database, broker: RedisBroker) -> None:
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
