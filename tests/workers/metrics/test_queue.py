"""Metrics of messages: with Dramatiq's names, in seconds, and never with names invented by a message."""

import threading
from collections.abc import Iterator
from typing import Any

import dramatiq
import fakeredis
import pytest
from dramatiq import Worker
from dramatiq.brokers.redis import RedisBroker
from prometheus_client import REGISTRY, generate_latest

from core.queue.messages import JOBS_QUEUE, message
from core.settings import Settings
from core.storage.sqlite.engine import Database
from tests.waiting import eventually
from workers.broker import create_broker
from workers.jobs.statements import STATEMENTS_QUEUE
from workers.metrics.queue import QueueMetrics

COUNTED = ("dramatiq_messages_total", "dramatiq_message_errors_total", "dramatiq_message_duration_seconds_count")


def counts(actor: str, queue: str = JOBS_QUEUE) -> list[float]:
    """Messages, errors and durations counted so far."""
    labels = {"queue_name": queue, "actor_name": actor}
    return [REGISTRY.get_sample_value(name, labels) or 0.0 for name in COUNTED]


def in_progress(actor: str, queue: str = JOBS_QUEUE) -> float | None:
    return REGISTRY.get_sample_value("dramatiq_messages_inprogress", {"queue_name": queue, "actor_name": actor})


@pytest.fixture
def worker(broker: RedisBroker) -> Iterator[Worker]:
    """A started worker of the jobs."""
    worker = Worker(broker, queues={JOBS_QUEUE}, worker_threads=1, worker_timeout=20)
    worker.start()
    yield worker
    worker.stop()


@pytest.fixture
def other_broker(
    settings: Settings, database: Database, server: fakeredis.FakeServer, stop: threading.Event
) -> Iterator[RedisBroker]:
    """A second broker on the same queue; the jobs' process has one for each of its queues."""
    broker = create_broker(settings, database, fakeredis.FakeRedis(server=server), stop)
    yield broker
    broker.close()


def test_message_is_counted_and_timed_in_seconds(broker: RedisBroker, worker: Worker) -> None:
    before = counts("checkpoint")
    labels = {"queue_name": JOBS_QUEUE, "actor_name": "checkpoint"}
    spent = REGISTRY.get_sample_value("dramatiq_message_duration_seconds_sum", labels) or 0.0
    broker.enqueue(message("checkpoint", JOBS_QUEUE))
    eventually(lambda: counts("checkpoint") == [before[0] + 1, before[1], before[2] + 1])
    assert in_progress("checkpoint") == 0
    took = (REGISTRY.get_sample_value("dramatiq_message_duration_seconds_sum", labels) or 0.0) - spent
    assert 0 < took < 10


def test_message_being_processed_is_in_progress(broker: RedisBroker, worker: Worker) -> None:
    seen: list[Any] = []
    dramatiq.actor(broker=broker, actor_name="look", queue_name=JOBS_QUEUE)(lambda: seen.append(in_progress("look")))
    broker.enqueue(message("look", JOBS_QUEUE))
    eventually(lambda: in_progress("look") == 0)
    assert seen == [1]


def test_work_that_raises_counts_as_an_error(broker: RedisBroker, worker: Worker) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    before = counts("fail")
    dramatiq.actor(broker=broker, actor_name="fail", queue_name=JOBS_QUEUE)(fail)
    broker.enqueue(message("fail", JOBS_QUEUE))
    eventually(lambda: counts("fail") == [count + 1 for count in before])


def test_invented_actor_creates_no_series(broker: RedisBroker, worker: Worker) -> None:
    before = counts("forget_expired_tokens")[0]
    for number in range(20):
        broker.enqueue(message(f"made-up-{number}", JOBS_QUEUE))
    broker.enqueue(message("forget_expired_tokens", JOBS_QUEUE))
    eventually(lambda: counts("forget_expired_tokens")[0] == before + 1)
    assert "made-up" not in generate_latest().decode()


def test_invented_queue_counts_as_unknown(broker: RedisBroker) -> None:
    counting, before = QueueMetrics(), counts("checkpoint", "unknown")[0]
    for number in range(20):
        forged = message("checkpoint", f"made-up-{number}")
        counting.before_process_message(broker, forged)
        counting.after_process_message(broker, forged)
    assert counts("checkpoint", "unknown")[0] == before + 20
    assert "made-up" not in generate_latest().decode()


def test_two_brokers_of_one_process_share_one_count(
    broker: RedisBroker, worker: Worker, other_broker: RedisBroker
) -> None:
    before = counts("checkpoint")
    other = Worker(other_broker, queues={STATEMENTS_QUEUE}, worker_threads=1, worker_timeout=20)
    other.start()
    made = counts("close_months", STATEMENTS_QUEUE)
    broker.enqueue(message("checkpoint", JOBS_QUEUE))
    broker.enqueue(message("close_months", STATEMENTS_QUEUE))
    eventually(lambda: counts("checkpoint")[0] == before[0] + 1)
    eventually(lambda: counts("close_months", STATEMENTS_QUEUE)[0] == made[0] + 1)
    other.stop()
