"""The scheduler: it finds forgotten transfers, and sends every due job once."""

from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from dramatiq import Message
from dramatiq.brokers.redis import RedisBroker
from fakeredis import FakeServer
from prometheus_client import REGISTRY

from core.domain.audit import Author
from core.domain.dead_letters import Letter
from core.domain.statements import Period
from core.queue.messages import JOBS_QUEUE, SETTLEMENT_QUEUE
from core.queue.wakeups import send_wakeup
from core.services import dead_letters
from core.services.statements import reading
from core.settings import Settings
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import Bank, accepted, bank_of_two, from_ada_to_bob, move_on, rows
from tests.months import close_months, undone_groups, work_off
from tests.time_travel import Clock
from workers import schedule
from workers.jobs import JOBS, upkeep
from workers.jobs.backups import BACK_UP
from workers.jobs.statements import CLOSE_MONTHS, MAKE_GROUP, MAKE_STATEMENT, STATEMENTS_QUEUE
from workers.jobs.upkeep import seconds_to_full_verification
from workers.schedule import (
    send_again,
    send_due,
    sweep,
    tick,
)
from workers.timetable import Timetable, timetable_of

UTC = ZoneInfo("UTC")
NOTHING_DUE = Timetable({})


def waiting(broker: RedisBroker, queue: str) -> int:
    """Return the number of messages in a queue."""
    size: int = broker.client.llen(f"dramatiq:{queue}")
    return size


def test_transfer_pending_for_too_long_wakes_the_worker(database: Database, broker: RedisBroker) -> None:
    accepted(database, from_ada_to_bob(bank_of_two(database, ada_has=500)))
    assert sweep(database, broker, age_seconds=0)
    assert waiting(broker, SETTLEMENT_QUEUE) == 1


def test_young_transfer_sends_no_wakeup(database: Database, broker: RedisBroker) -> None:
    accepted(database, from_ada_to_bob(bank_of_two(database, ada_has=500)))
    assert not sweep(database, broker, age_seconds=60)
    assert waiting(broker, SETTLEMENT_QUEUE) == 0


def test_transfer_in_the_future_wakes_the_worker(database: Database, broker: RedisBroker, clock: Clock) -> None:
    accepted(database, from_ada_to_bob(bank_of_two(database, ada_has=500)))
    clock.advance(hours=-1)
    assert sweep(database, broker, age_seconds=60)


def test_nothing_pending_sends_no_wakeup(database: Database, broker: RedisBroker) -> None:
    bank_of_two(database, ada_has=500)
    assert not sweep(database, broker, age_seconds=0)
    assert waiting(broker, SETTLEMENT_QUEUE) == 0


def test_sweep_adds_no_second_wakeup(database: Database, broker: RedisBroker) -> None:
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
def test_job_is_due_at_the_start_and_then_after_its_interval(now: float, due: list[str]) -> None:
    timetable = Timetable({"hourly": 3600, "daily": 86_400})
    if now > 0:
        for job in timetable.due(0.0):
            timetable.done(job, 0.0)
    assert timetable.due(now) == due


@pytest.mark.parametrize(("hours_ago", "due_in"), [(None, 0), (0, 24), (23, 1), (30, -6), (-8760, 0)])
def test_restart_does_not_repeat_the_verification_of_the_whole_ledger(
    database: Database, settings: Settings, clock: Clock, hours_ago: int | None, due_in: int
) -> None:
    if hours_ago is not None:
        upkeep.verify(database, settings)
        clock.advance(hours=hours_ago)
        upkeep.verify_recent(database, settings)
    assert seconds_to_full_verification(database, settings.model_copy(update={"verify_hours": 24})) == due_in * 3600
    timetable = Timetable({"verify": 3600, "recent": 60}, later={"verify": 1000.0})
    assert (timetable.due(999.0), timetable.due(1000.0)) == (["recent"], ["verify", "recent"])


def test_every_job_of_the_timetable_is_on_the_jobs_queue() -> None:
    assert {job.queue for job in JOBS if job.every_seconds is not None} == {JOBS_QUEUE}


def test_job_is_due_once_after_a_long_downtime() -> None:
    timetable = Timetable({"hourly": 3600})
    timetable.done("hourly", 1_000_000.0)
    assert timetable.due(1_000_001.0) == []


def test_tick_sends_each_due_job_once(database: Database, broker: RedisBroker) -> None:
    timetable = Timetable({"verify": 3600, "checkpoint": 3600})
    tick(database, broker, timetable, age_seconds=2, zone=UTC)
    tick(database, broker, timetable, age_seconds=2, zone=UTC)
    assert waiting(broker, JOBS_QUEUE) == 2


def test_job_stays_due_while_the_queue_is_unreachable(
    database: Database, broker: RedisBroker, server: FakeServer
) -> None:
    timetable = Timetable({"verify": 3600})
    server.connected = False
    tick(database, broker, timetable, age_seconds=2, zone=UTC)
    server.connected = True
    tick(database, broker, timetable, age_seconds=2, zone=UTC)
    assert waiting(broker, JOBS_QUEUE) == 1


def test_tick_survives_an_unreachable_database(database: Database, broker: RedisBroker) -> None:
    error = ("giro_database_errors_total", {"error": "SQLITE_CANTOPEN"})
    before = REGISTRY.get_sample_value(*error) or 0.0
    database.path.rename(database.path.with_name("away.db"))
    tick(database, broker, NOTHING_DUE, age_seconds=2, zone=UTC)
    assert REGISTRY.get_sample_value(*error) == before + 1


@pytest.mark.parametrize(
    ("hours", "look_every"), [(24, 600), (0.1, 360), (0, None)], ids=["a day", "minutes", "none are made"]
)
def test_due_backups_are_checked_often_enough(
    settings: Settings, database: Database, hours: float, look_every: float | None
) -> None:
    timetable = timetable_of(settings.model_copy(update={"backup_hours": hours}), database)
    assert (BACK_UP in timetable.due(0.0)) is (look_every is not None)
    if look_every is not None:
        timetable.done(BACK_UP, 0.0)
        assert BACK_UP not in timetable.due(look_every - 1)
        assert BACK_UP in timetable.due(look_every)


# --- statements --------------------------------------------------------------------------------------------------

AUTHOR = Author(user_id=1, request_id="a-request", address=None)


@pytest.fixture
def bank(clock: Clock, bank: Bank) -> Bank:
    """A bank that was opened in January; it is 10 February."""
    clock.set(2026, 2, 10)
    return bank


def ask(database: Database, bank: Bank) -> None:
    """Request Ada's and Bob's statements of January."""
    for person, account in ((bank.ada, bank.ada_account), (bank.bob, bank.bob_account)):
        with unit_of_work(database) as connection:
            reading.ask_for(
                connection, user_id=person.id, account_id=account, period=Period(2026, 1), zone=UTC, group=1
            )


def sent(broker: RedisBroker, queue: str = STATEMENTS_QUEUE) -> list[tuple[str, list[int]]]:
    """Return the actor and arguments of the messages in a queue, oldest first."""
    ids = broker.client.lrange(f"dramatiq:{queue}", 0, -1)
    found = [Message.decode(broker.client.hget(f"dramatiq:{queue}.msgs", message)) for message in ids]
    return [(message.actor_name, list(message.args)) for message in found]


def flush(broker: RedisBroker) -> None:
    """Lose every message, as after a restart of the queue server."""
    broker.client.flushall()


def park(database: Database, letter: Letter) -> UUID:
    with unit_of_work(database) as connection:
        for _ in range(3):
            dead_letters.fail(connection, letter, ZeroDivisionError())
    (row,) = rows(database, "SELECT public_id FROM dead_letters WHERE arguments = ?", letter.text)
    return UUID(bytes=row["public_id"])


def test_closing_of_a_past_month_is_sent_once(database: Database, broker: RedisBroker, bank: Bank) -> None:
    assert [send_due(database, broker, UTC) for _ in range(3)] == [1, 0, 0]
    assert sent(broker) == [(CLOSE_MONTHS, [])]
    assert waiting(broker, JOBS_QUEUE) == waiting(broker, SETTLEMENT_QUEUE) == 0, "it has its own queue"


def test_nothing_is_due_during_the_first_month(database: Database, broker: RedisBroker, clock: Clock) -> None:
    bank_of_two(database)
    clock.set(2026, 1, 31, 23, 59, 59)
    assert send_due(database, broker, UTC) == 0
    assert send_due(database, broker, ZoneInfo("Europe/Berlin")) == 1, "there it is February"


def test_each_group_and_requested_statement_gets_one_message(
    database: Database, broker: RedisBroker, bank: Bank
) -> None:
    ask(database, bank)
    assert send_due(database, broker, UTC) == 5
    groups = [(MAKE_GROUP, [group]) for group in undone_groups(database)]
    assert sent(broker) == [(MAKE_STATEMENT, [1]), (MAKE_STATEMENT, [2]), *groups]


def test_nothing_is_sent_again_while_the_queue_has_messages(
    database: Database, broker: RedisBroker, bank: Bank
) -> None:
    close_months(database, group=1)
    assert send_due(database, broker, UTC) == 3
    broker.client.lpop("dramatiq:statements")  # a worker has taken one message, and not acknowledged it yet
    assert send_due(database, broker, UTC) == 0


def test_lost_messages_are_sent_again(database: Database, broker: RedisBroker, bank: Bank) -> None:
    close_months(database, group=1)
    send_due(database, broker, UTC)
    before = sent(broker)
    flush(broker)
    assert send_due(database, broker, UTC) == 3
    assert sent(broker) == before


def test_finished_work_is_not_sent_again(database: Database, broker: RedisBroker, bank: Bank) -> None:
    ask(database, bank)
    work_off(database)
    assert send_due(database, broker, UTC) == 0


def test_tick_sends_a_limited_number_of_messages(
    database: Database, broker: RedisBroker, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "MOST_AT_ONCE", 2)
    close_months(database, group=1)
    assert send_due(database, broker, UTC) == 2
    park(database, Letter(STATEMENTS_QUEUE, MAKE_GROUP, (1,)))
    flush(broker)
    assert send_due(database, broker, UTC) == 2, "a parked message does not delay others"
    assert sent(broker) == [(MAKE_GROUP, [2]), (MAKE_GROUP, [3])]


def test_parked_message_waits_for_a_retry_by_an_operator(database: Database, broker: RedisBroker, bank: Bank) -> None:
    close_months(database)
    letter = park(database, Letter(STATEMENTS_QUEUE, MAKE_GROUP, (1,)))
    assert send_due(database, broker, UTC) == send_again(database, broker) == 0
    with unit_of_work(database) as connection:
        dead_letters.retry(connection, AUTHOR, letter)
    assert send_due(database, broker, UTC) == 1
    assert send_again(database, broker) == 0, "the message is already on its way"


def test_dropped_message_is_sent_again_if_its_work_is_still_due(
    database: Database, broker: RedisBroker, bank: Bank
) -> None:
    close_months(database)
    letter = park(database, Letter(STATEMENTS_QUEUE, MAKE_GROUP, (1,)))
    with unit_of_work(database) as connection:
        dead_letters.drop(connection, AUTHOR, letter)
    assert send_due(database, broker, UTC) == 1


@pytest.mark.parametrize(
    "letter",
    [Letter(JOBS_QUEUE, "verify"), Letter(SETTLEMENT_QUEUE, "settle"), Letter(STATEMENTS_QUEUE, MAKE_GROUP, (7,))],
)
def test_retried_message_is_sent_again_until_it_is_processed(
    database: Database, broker: RedisBroker, letter: Letter
) -> None:
    parked = park(database, letter)
    assert send_again(database, broker) == 0
    with unit_of_work(database) as connection:
        dead_letters.retry(connection, AUTHOR, parked)
    assert [send_again(database, broker) for _ in range(2)] == [1, 0]
    assert sent(broker, letter.queue) == [(letter.actor, list(letter.arguments))]
    flush(broker)
    assert send_again(database, broker) == 1
    flush(broker)
    with unit_of_work(database) as connection:
        dead_letters.succeed(connection, letter)
    assert send_again(database, broker) == 0


def test_tick_sends_due_work_and_retries(database: Database, broker: RedisBroker, bank: Bank) -> None:
    letter = park(database, Letter(JOBS_QUEUE, "verify"))
    with unit_of_work(database) as connection:
        dead_letters.retry(connection, AUTHOR, letter)
    for _ in range(2):
        tick(database, broker, NOTHING_DUE, age_seconds=2, zone=UTC)
    assert (sent(broker), sent(broker, JOBS_QUEUE)) == ([(CLOSE_MONTHS, [])], [("verify", [])])


def test_unreachable_queue_gets_its_messages_later(
    database: Database, broker: RedisBroker, bank: Bank, server: FakeServer
) -> None:
    server.connected = False
    tick(database, broker, NOTHING_DUE, age_seconds=2, zone=UTC)
    server.connected = True
    tick(database, broker, NOTHING_DUE, age_seconds=2, zone=UTC)
    assert sent(broker) == [(CLOSE_MONTHS, [])]


def test_nothing_is_sent_after_a_migration_by_another_version(database: Database, broker: RedisBroker) -> None:
    accepted(database, from_ada_to_bob(bank_of_two(database, ada_has=500)))
    told: list[bool] = []
    database.moved_on = lambda: told.append(True)
    move_on(database)
    tick(database, broker, Timetable({"verify": 60}), age_seconds=0, zone=UTC)
    assert told
    assert waiting(broker, SETTLEMENT_QUEUE) == waiting(broker, JOBS_QUEUE) == 0
