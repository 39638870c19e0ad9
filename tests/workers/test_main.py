"""The worker process: its heartbeat continues only while its threads work."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import fakeredis
import pytest
from dramatiq import Worker
from dramatiq.brokers.redis import RedisBroker

from core.queue.broker import is_idle
from core.queue.messages import JOBS_QUEUE, message
from core.settings import Settings
from core.storage.sqlite.engine import Database
from tests.waiting import eventually
from workers.broker import create_broker
from workers.jobs.statements import CLOSE_MONTHS, STATEMENTS_QUEUE


@pytest.fixture
def worker(broker: RedisBroker) -> Iterator[Worker]:
    worker = Worker(broker, queues={JOBS_QUEUE}, worker_threads=1, worker_timeout=20)
    yield worker
    worker.stop()


@pytest.fixture
def works(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> object:
    """The heartbeat's check. Importing it creates a broker with this test's settings."""
    monkeypatch.setenv("GIRO_DATA_DIR", str(settings.data_dir))
    from workers.main import works

    return works


@pytest.mark.parametrize("kind", ["worker", "consumer"])
def test_worker_without_one_of_its_threads_is_not_healthy(worker: Worker, works, kind: str) -> None:
    assert works(worker), "it has no threads yet"
    worker.start()
    eventually(lambda: works(worker))
    thread = worker.workers[0] if kind == "worker" else worker.consumers[JOBS_QUEUE]
    thread.stop()
    eventually(lambda: not works(worker))


def test_two_workers_of_one_process_work_and_stop_together(
    settings: Settings, database: Database, server: fakeredis.FakeServer, stop: threading.Event
) -> None:
    sent = {JOBS_QUEUE: "verify", STATEMENTS_QUEUE: CLOSE_MONTHS}
    brokers = {queue: create_broker(settings, database, fakeredis.FakeRedis(server=server), stop) for queue in sent}
    workers = [Worker(broker, queues={queue}, worker_threads=1, worker_timeout=20) for queue, broker in brokers.items()]
    for worker in workers:
        worker.start()
    for queue, actor in sent.items():
        brokers[queue].enqueue(message(actor, queue))
    for queue, broker in brokers.items():
        eventually(lambda queue=queue, broker=broker: is_idle(broker, queue))
    with ThreadPoolExecutor(len(workers)) as pool:
        list(pool.map(lambda worker: worker.stop(timeout=8000), workers))
    threads = [thread for worker in workers for thread in [*worker.workers, *worker.consumers.values()]]
    assert [thread.is_alive() for thread in threads] == [False] * 6, "a thread that works and two that consume, each"
