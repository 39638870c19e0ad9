"""Settling needs no queue: with each fault of a real server, transfers settle within a second."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from dramatiq import Worker
from dramatiq.brokers.redis import RedisBroker

from core.domain.transfers import TransferStatus
from core.queue import broker as queue_broker
from core.queue.broker import connect, count_messages, probe
from core.queue.messages import SETTLEMENT_QUEUE
from core.queue.wakeups import send_wakeup
from core.settings import Settings
from core.storage.sqlite.engine import Database
from core.storage.sqlite.glance import Glance
from core.telemetry.seldom import Seldom
from tests.builders import accepted, bank_of_two, from_ada_to_bob, status_of
from tests.queue_faults import FAULTS, QueueServer
from tests.waiting import eventually
from workers import lookout
from workers.broker import create_broker
from workers.lookout import Lookout

pytestmark = pytest.mark.processes

SETTLED_SECONDS = 1.0


class Lines:
    """A logger that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def warning(self, event: str, **details: Any) -> None:
        self.lines.append({"event": event, **details})


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    """The lines about a queue that is away; the next one is due."""
    lines = Lines()
    monkeypatch.setattr(queue_broker.queue_away, "_log", lines)
    monkeypatch.setattr(queue_broker.queue_away, "_quiet_until", 0.0)
    return lines


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[QueueServer]:
    queue = QueueServer(tmp_path)
    yield queue
    queue.close()


@pytest.fixture
def broker(
    settings: Settings, database: Database, queue: QueueServer, stop: threading.Event, lines: Lines
) -> RedisBroker:
    return create_broker(settings, database, connect(queue.url), stop)


def worker_of(broker: RedisBroker) -> Worker:
    return Worker(broker, queues={SETTLEMENT_QUEUE}, worker_threads=1, worker_timeout=20)


def is_settled(database: Database, transfer: Any) -> bool:
    return status_of(database, transfer) is TransferStatus.COMPLETED


@pytest.mark.parametrize("fault", FAULTS)
def test_transfers_settle_within_a_second_and_one_line_says_so(
    database: Database, broker: RedisBroker, queue: QueueServer, lines: Lines, fault: str
) -> None:
    bank = bank_of_two(database, ada_has=500)
    worker = worker_of(broker)
    worker.start()
    eventually(lambda: all(consumer.consumer for consumer in worker.consumers.values()))
    queue.fault(fault)
    for _ in range(5):
        transfer = accepted(database, from_ada_to_bob(bank))
        eventually(lambda transfer=transfer: is_settled(database, transfer), SETTLED_SECONDS)
    eventually(lambda: lines.lines)
    assert [line["event"] for line in lines.lines] == ["queue_away"]
    queue.heal()
    worker.stop()


@pytest.mark.parametrize("fault", FAULTS)
def test_worker_starts_and_settles_with_a_queue_that_is_broken_from_the_start(
    database: Database, broker: RedisBroker, queue: QueueServer, fault: str
) -> None:
    bank = bank_of_two(database, ada_has=500)
    before = accepted(database, from_ada_to_bob(bank))
    queue.fault(fault)
    worker = worker_of(broker)
    worker.start()
    assert is_settled(database, before)
    transfer = accepted(database, from_ada_to_bob(bank))
    eventually(lambda: is_settled(database, transfer), SETTLED_SECONDS)
    queue.heal()
    eventually(lambda: not broker.client.exists("giro:woken"))
    send_wakeup(broker)
    eventually(lambda: count_messages(broker, SETTLEMENT_QUEUE) == 0)
    worker.stop()


@pytest.mark.parametrize("fault", FAULTS)
def test_probe_notices_what_a_ping_does_not(broker: RedisBroker, queue: QueueServer, fault: str) -> None:
    probe(broker)
    queue.fault(fault)
    with pytest.raises(redis.RedisError):
        probe(broker)
    queue.heal()
    probe(broker)


# --- the consumer ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [redis.ConnectionError("away"), redis.ResponseError("WRONGTYPE"), ValueError("odd")])
def test_consumer_that_keeps_failing_tries_less_and_less_often(
    broker: RedisBroker, lines: Lines, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    tries = []

    def fail(*_arguments: object) -> None:
        tries.append(time.monotonic())
        raise error

    consumer = broker.consume(SETTLEMENT_QUEUE, 1, 20)
    monkeypatch.setattr(queue_broker, "FAILURES_AT_ONCE", 3)
    monkeypatch.setattr(consumer, "_take", fail)
    until = time.monotonic() + 4
    while time.monotonic() < until:
        assert next(consumer) is None
    assert len(tries) - (3 if isinstance(error, ValueError) else 0) == 4, "after 0, 0.5, 1.5 and 3.5 seconds"
    assert len(lines.lines) == 1
    assert type(error).__name__ in lines.lines[0]["error"]


def test_line_is_repeated_after_a_minute_with_the_sums_of_that_minute() -> None:
    lines = Lines()
    seldom = Seldom(lines, "queue_away", seconds=0.2)  # type: ignore[arg-type]
    seldom.warn(error=OSError("lost"))
    for _ in range(3):
        seldom.warn(settled_without_it=2)
    time.sleep(0.25)
    seldom.warn(settled_without_it=2)
    first, second = lines.lines
    assert first == {"event": "queue_away", "error": "OSError: lost", "times": 1}
    assert second == {"event": "queue_away", "error": None, "times": 4, "settled_without_it": 8}


# --- the lookout -------------------------------------------------------------------------------------------------


async def test_look_names_the_oldest_pending_transfer(database: Database) -> None:
    bank = bank_of_two(database, ada_has=500)
    glance = Glance(database)
    assert await glance.oldest_pending() is None
    accepted(database, from_ada_to_bob(bank))
    first = await glance.oldest_pending()
    accepted(database, from_ada_to_bob(bank))
    assert first is not None
    assert await glance.oldest_pending() == first
    await glance.close()


async def test_look_reads_no_table_if_nothing_was_committed(database: Database) -> None:
    bank_of_two(database)
    glance, read = Glance(database), []
    glance._connection.set_trace_callback(read.append)
    for _ in range(3):
        await glance.oldest_pending()
    assert [statement for statement in read if "lanes" in statement] == read[1:2]
    await glance.close()


def test_lookout_leaves_transfers_to_their_messages(database: Database) -> None:
    """While the oldest transfer is another one at each look, messages do their work."""
    bank = bank_of_two(database, ada_has=500)
    settled: list[int] = []
    watch = Lookout(database, lambda: settled.append(1) or 1)
    with asyncio.Runner() as runner:
        watch._look(runner)
        accepted(database, from_ada_to_bob(bank))
        watch._look(runner)
        assert settled == []
        watch._look(runner)
        assert settled == [1]
        watch._look(runner)
        assert settled == [1], "it stays pending, so the next try is a second later"
        watch._close(runner)


def test_lookout_survives_a_database_that_cannot_be_read(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    failed, settled = Lines(), threading.Event()
    monkeypatch.setattr(lookout, "look_failed", Seldom(failed, "look_failed"))  # type: ignore[arg-type]
    monkeypatch.setattr(lookout, "AGAIN_SECONDS", 0.01)
    bank = bank_of_two(database, ada_has=500)
    watch = Lookout(database, lambda: settled.set() or 1)
    away = database.path.with_name("away.db")
    database.path.rename(away)
    watch.start()
    eventually(lambda: failed.lines)
    settled.clear()
    away.rename(database.path)
    accepted(database, from_ada_to_bob(bank))
    assert settled.wait(30)
    watch.stop()
    assert not watch.is_alive()
