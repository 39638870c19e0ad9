"""The scheduler: what is forgotten is found, and what is due is sent, once."""

import pytest
from dramatiq.brokers.redis import RedisBroker
from fakeredis import FakeServer

from core.queue import JOBS_QUEUE, SETTLEMENT_QUEUE, send_wakeup
from core.storage.engine import Database
from tests.builders import accepted, bank_of_two, from_ada_to_bob
from workers.schedule import Timetable, sweep, tick

NOTHING_DUE = Timetable({})


def waiting(broker: RedisBroker, queue: str) -> int:
    """How many messages lie in a queue."""
    size: int = broker.client.llen(f"dramatiq:{queue}")
    return size


def test_a_transfer_pending_for_too_long_wakes_the_worker(database: Database, broker: RedisBroker) -> None:
    accepted(database, from_ada_to_bob(bank_of_two(database, ada_has=500)))
    assert sweep(database, broker, age_seconds=0)
    assert waiting(broker, SETTLEMENT_QUEUE) == 1


def test_a_young_transfer_is_left_to_its_own_wakeup(database: Database, broker: RedisBroker) -> None:
    accepted(database, from_ada_to_bob(bank_of_two(database, ada_has=500)))
    assert not sweep(database, broker, age_seconds=60)
    assert waiting(broker, SETTLEMENT_QUEUE) == 0


def test_nothing_pending_wakes_nobody(database: Database, broker: RedisBroker) -> None:
    bank_of_two(database, ada_has=500)
    assert not sweep(database, broker, age_seconds=0)
    assert waiting(broker, SETTLEMENT_QUEUE) == 0


def test_a_sweep_adds_no_second_wakeup_to_one_on_its_way(database: Database, broker: RedisBroker) -> None:
    accepted(database, from_ada_to_bob(bank_of_two(database, ada_has=500)))
    send_wakeup(broker)
    assert not sweep(database, broker, age_seconds=0)
    assert waiting(broker, SETTLEMENT_QUEUE) == 1


@pytest.mark.parametrize(
    ("now", "due"),
    [
        (0.0, ["hourly", "daily"]),
        (3599.0, []),
        (3600.0, ["hourly"]),
        (86_400.0, ["hourly", "daily"]),
        (40 * 86_400.0, ["hourly", "daily"]),
    ],
)
def test_a_job_is_due_at_the_start_and_then_after_its_time(now: float, due: list[str]) -> None:
    timetable = Timetable({"hourly": 3600, "daily": 86_400})
    if now > 0:
        for job in timetable.due(0.0):
            timetable.done(job, 0.0)
    assert timetable.due(now) == due


def test_after_long_absence_a_job_is_due_once_and_not_for_each_time_missed() -> None:
    timetable = Timetable({"hourly": 3600})
    timetable.done("hourly", 1_000_000.0)
    assert timetable.due(1_000_001.0) == []


def test_a_tick_sends_each_due_job_once(database: Database, broker: RedisBroker) -> None:
    timetable = Timetable({"verify": 3600, "checkpoint": 3600})
    tick(database, broker, timetable, age_seconds=2)
    tick(database, broker, timetable, age_seconds=2)
    assert waiting(broker, JOBS_QUEUE) == 2


def test_a_job_stays_due_while_the_queue_is_away(database: Database, broker: RedisBroker, server: FakeServer) -> None:
    timetable = Timetable({"verify": 3600})
    server.connected = False
    tick(database, broker, timetable, age_seconds=2)
    server.connected = True
    tick(database, broker, timetable, age_seconds=2)
    assert waiting(broker, JOBS_QUEUE) == 1


def test_a_tick_survives_a_database_that_is_away(database: Database, broker: RedisBroker) -> None:
    database.path.rename(database.path.with_name("away.db"))
    tick(database, broker, NOTHING_DUE, age_seconds=2)
