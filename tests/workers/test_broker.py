"""One settlement worker per database: a second one waits as standby and takes over."""

import threading
from collections.abc import Iterator

import fakeredis
import pytest
from dramatiq import Worker
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import MiddlewareError
from prometheus_client import REGISTRY

from core.domain.transfers import TransferStatus
from core.files.locks import FileLock
from core.queue.broker import count_messages
from core.queue.messages import JOBS_QUEUE, SETTLE, SETTLEMENT_QUEUE, message
from core.queue.wakeups import send_wakeup
from core.settings import Settings
from core.storage.sqlite.engine import Database
from core.storage.sqlite.turnstile import settlement_lock
from tests.builders import accepted, bank_of_two, from_ada_to_bob, status_of
from tests.waiting import eventually
from workers.broker import StoodDown, create_broker
from workers.jobs.backups import BACK_UP
from workers.jobs.documents import DOCUMENTS_QUEUE, FORGET_DOCUMENTS, MAKE_DOCUMENT
from workers.jobs.statements import CLOSE_MONTHS, MAKE_GROUP, MAKE_STATEMENT, STATEMENTS_QUEUE


@pytest.fixture
def other_worker(database: Database) -> Iterator[FileLock]:
    """The lock, held by another worker's process."""
    lock = settlement_lock(database.path)
    assert lock.try_acquire()
    yield lock
    lock.close()


def settlement_worker(broker: RedisBroker, threads: int = 1) -> Worker:
    return Worker(broker, queues={SETTLEMENT_QUEUE}, worker_threads=threads, worker_timeout=20)


def settling() -> float | None:
    return REGISTRY.get_sample_value("giro_settlement_active")


def test_standby_worker_takes_over_when_the_first_is_gone(
    database: Database, broker: RedisBroker, other_worker: FileLock
) -> None:
    bank = bank_of_two(database, ada_has=500)
    transfer = accepted(database, from_ada_to_bob(bank))
    second = settlement_worker(broker)
    starting = threading.Thread(target=second.start)
    starting.start()
    starting.join(timeout=0.5)
    assert settling() == 0
    assert starting.is_alive(), "it must wait for the lock before it handles any message"
    assert status_of(database, transfer) is TransferStatus.PENDING
    other_worker.release()
    eventually(lambda: status_of(database, transfer) is TransferStatus.COMPLETED)
    starting.join()
    assert settling() == 1
    second.stop()
    assert settling() == 0


def test_standby_worker_that_is_stopped_starts_nothing(
    broker: RedisBroker, stop: threading.Event, other_worker: FileLock
) -> None:
    worker = settlement_worker(broker)
    stop.set()
    with pytest.raises(StoodDown):
        worker.start()
    assert not worker.workers


def test_stopping_worker_releases_the_lock(database: Database, broker: RedisBroker) -> None:
    worker = settlement_worker(broker)
    worker.start()
    lock = settlement_lock(database.path)
    assert not lock.try_acquire()
    worker.stop()
    assert lock.try_acquire()
    lock.close()


def test_settlement_refuses_a_second_thread(broker: RedisBroker) -> None:
    with pytest.raises(MiddlewareError, match="--threads 1"):
        settlement_worker(broker, threads=2).start()


def test_jobs_worker_needs_no_lock(broker: RedisBroker, other_worker: FileLock) -> None:
    worker = Worker(broker, queues={JOBS_QUEUE}, worker_threads=1, worker_timeout=20)
    worker.start()
    assert settling() == 0
    worker.stop()


def test_workers_of_two_databases_are_independent(
    settings: Settings, broker: RedisBroker, other_worker: FileLock, stop: threading.Event
) -> None:
    elsewhere = Database(settings.model_copy(update={"database_url": f"{settings.database_url}.elsewhere"}))
    elsewhere.create()
    lock = settlement_lock(elsewhere.path)
    assert lock.try_acquire()
    lock.close()
    elsewhere.close()


def test_worker_declares_settlement_and_every_job(
    settings: Settings, database: Database, stop: threading.Event
) -> None:
    broker = create_broker(settings, database, fakeredis.FakeRedis(), stop)
    assert broker.get_declared_queues() == {SETTLEMENT_QUEUE, JOBS_QUEUE, STATEMENTS_QUEUE, DOCUMENTS_QUEUE}
    jobs = {
        "verify",
        "verify_recent",
        "anchor",
        "stamp",
        "checkpoint",
        "forget_expired_tokens",
        BACK_UP,
        FORGET_DOCUMENTS,
    }
    rows = {CLOSE_MONTHS, MAKE_GROUP, MAKE_STATEMENT, MAKE_DOCUMENT}
    assert broker.get_declared_actors() == {"settle", *jobs, BACK_UP, FORGET_DOCUMENTS, *rows}


@pytest.mark.parametrize("said", ["made-up", JOBS_QUEUE, ""])
def test_message_with_a_wrong_queue_name_does_not_stop_the_worker(
    database: Database, broker: RedisBroker, said: str
) -> None:
    bank = bank_of_two(database, ada_has=500)
    worker = settlement_worker(broker)
    worker.start()
    forged = message(SETTLE, said).copy(options={"redis_message_id": "forged"})
    broker.do_enqueue(SETTLEMENT_QUEUE, "forged", forged.encode())
    eventually(lambda: count_messages(broker, SETTLEMENT_QUEUE) == 0)
    transfer = accepted(database, from_ada_to_bob(bank))
    send_wakeup(broker)
    eventually(lambda: status_of(database, transfer) is TransferStatus.COMPLETED)
    worker.stop()
