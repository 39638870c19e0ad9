"""The worker process: it shows signs of life for as long as its threads have any."""

from collections.abc import Iterator

import pytest
from dramatiq import Worker
from dramatiq.brokers.redis import RedisBroker

from core.queue.messages import JOBS_QUEUE
from core.settings import Settings
from tests.waiting import eventually


@pytest.fixture
def worker(broker: RedisBroker) -> Iterator[Worker]:
    worker = Worker(broker, queues={JOBS_QUEUE}, worker_threads=1, worker_timeout=20)
    yield worker
    worker.stop()


@pytest.fixture
def works(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> object:
    """What the heartbeat asks; importing it makes a broker, of this test's settings."""
    monkeypatch.setenv("GIRO_DATA_DIR", str(settings.data_dir))
    from workers.main import works

    return works


@pytest.mark.parametrize("kind", ["worker", "consumer"])
def test_a_worker_that_lost_a_thread_does_not_work(worker: Worker, works, kind: str) -> None:
    assert works(worker), "it has none yet"
    worker.start()
    eventually(lambda: works(worker))
    thread = worker.workers[0] if kind == "worker" else worker.consumers[JOBS_QUEUE]
    thread.stop()
    eventually(lambda: not works(worker))
