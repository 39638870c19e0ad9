"""The actors that make statements: they look up the rows that a message names, and a failed job stops nothing."""

from typing import Any
from uuid import UUID

import pytest
from dramatiq import Worker
from dramatiq.brokers.redis import RedisBroker
from prometheus_client import REGISTRY

from core.domain.audit import Author
from core.domain.statements import Period
from core.domain.transfers import TransferStatus
from core.queue.messages import JOBS_QUEUE, SETTLE, message
from core.services import dead_letters
from core.services.statements import making, reading
from core.settings import Settings
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import Bank, accepted, from_ada_to_bob, rows, status_of
from tests.months import UTC_ZONE, months_of, runs, statements_of, undone_groups
from tests.time_travel import Clock
from tests.waiting import eventually
from workers.jobs import settlement
from workers.jobs.statements import CLOSE_MONTHS, MAKE_GROUP, MAKE_STATEMENT, STATEMENTS_QUEUE

AUTHOR = Author(user_id=1, request_id="a-request", address=None)


@pytest.fixture
def bank(clock: Clock, bank: Bank) -> Bank:
    """A bank that was opened in January; it is 1 February."""
    clock.set(2026, 2, 1)
    return bank


def counted(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


def parked(database: Database) -> list[dict[str, Any]]:
    return rows(database, "SELECT * FROM dead_letters WHERE parked_at IS NOT NULL")


def ask(database: Database, bank: Bank) -> int:
    with unit_of_work(database) as connection:
        reading.ask_for(
            connection, user_id=bank.ada.id, account_id=bank.ada_account, period=Period(2026, 1), zone=UTC_ZONE, group=9
        )
    return int(rows(database, "SELECT max(id) AS id FROM statements")[0]["id"])


def test_messages_close_months_and_make_statements(database: Database, broker: RedisBroker, bank: Bank) -> None:
    made, timed = counted("giro_statements_made_total"), counted("giro_statement_group_duration_seconds_count")
    broker.get_actor(CLOSE_MONTHS)()
    assert [run["period"] for run in runs(database)] == ["2026-01"]
    (group,) = undone_groups(database)
    broker.get_actor(MAKE_GROUP)(group)
    assert undone_groups(database) == []
    assert months_of(database, bank.ada_account) == months_of(database, bank.bob_account) == ["2026-01"]
    assert counted("giro_statements_made_total") == made + 2
    assert counted("giro_statement_group_duration_seconds_count") == timed + 1


def test_message_makes_the_requested_statement(database: Database, broker: RedisBroker, bank: Bank) -> None:
    broker.get_actor(MAKE_STATEMENT)(ask(database, bank))
    assert [row["status"] for row in statements_of(database, bank.ada_account)] == ["final"]
    assert months_of(database, bank.bob_account) == []


def test_statements_name_the_bank_of_the_settings(database: Database, broker: RedisBroker, bank: Bank) -> None:
    broker.get_actor(MAKE_STATEMENT)(ask(database, bank))
    assert statements_of(database, bank.ada_account)[0]["bank_name"] == "Giro"


@pytest.mark.parametrize("actor", [MAKE_GROUP, MAKE_STATEMENT])
@pytest.mark.parametrize(
    "arguments", [(), (0,), (-1,), (2**63,), ("1",), (1.0,), (True,), (None,), ([1],), ({"id": 1},)], ids=repr
)
def test_forged_message_makes_nothing_and_does_not_count_as_a_failure(
    database: Database, broker: RedisBroker, bank: Bank, actor: str, arguments: tuple[object, ...]
) -> None:
    broker.get_actor(CLOSE_MONTHS)()
    broker.get_actor(actor)(*arguments)
    assert rows(database, "SELECT id FROM statements") == rows(database, "SELECT id FROM dead_letters") == []


@pytest.mark.parametrize("actor", [CLOSE_MONTHS, MAKE_GROUP, MAKE_STATEMENT])
def test_message_content_other_than_its_row_is_ignored(
    database: Database, broker: RedisBroker, bank: Bank, actor: str
) -> None:
    broker.get_actor(CLOSE_MONTHS)("2026-07", period="2026-07")
    broker.get_actor(actor)(1, 2, 3, run_id=7, status="final")
    assert [run["period"] for run in runs(database)] == ["2026-01"]
    assert rows(database, "SELECT id FROM dead_letters") == []


def test_message_delivered_twice_makes_everything_once(database: Database, broker: RedisBroker, bank: Bank) -> None:
    for _ in range(2):
        broker.get_actor(CLOSE_MONTHS)()
        broker.get_actor(MAKE_GROUP)(1)
    assert len(rows(database, "SELECT id FROM statements")) == 2
    assert [(run["statements"], run["groups_done"]) for run in runs(database)] == [(2, 1)]


def test_failing_work_is_parked_and_done_once_after_fix_and_retry(
    database: Database, broker: RedisBroker, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.get_actor(CLOSE_MONTHS)()
    with monkeypatch.context() as patch:
        patch.setattr(making, "_missing", _broken_chain)
        for number in range(3):
            assert len(parked(database)) == 0, number
            broker.get_actor(MAKE_GROUP)(1)
    (letter,) = parked(database)
    assert (letter["actor"], letter["arguments"], letter["attempts"]) == (MAKE_GROUP, "[1]", 3)
    assert letter["error"] == "BrokenChain: account 2"
    assert undone_groups(database) == [1]
    with unit_of_work(database) as connection:
        dead_letters.retry(connection, AUTHOR, UUID(bytes=letter["public_id"]))
    broker.get_actor(MAKE_GROUP)(1)
    assert rows(database, "SELECT id FROM dead_letters") == undone_groups(database) == []
    assert months_of(database, bank.ada_account) == ["2026-01"]


def _broken_chain(*_arguments: object, **_options: object) -> list[Any]:
    raise making.BrokenChain("account 2")


def test_failing_settlement_is_a_dead_letter_until_it_settles(
    database: Database, broker: RedisBroker, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfer = accepted(database, from_ada_to_bob(bank))

    def break_down(*_arguments: object, **_options: object) -> int:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(settlement, "settle_pending", break_down)
        for _ in range(3):
            broker.get_actor(SETTLE)()
    assert [(row["queue"], row["actor"], row["arguments"]) for row in parked(database)] == [
        ("settlement", "settle", "[]")
    ]
    broker.get_actor(SETTLE)()
    assert status_of(database, transfer) is TransferStatus.COMPLETED
    assert parked(database) == []


def test_statements_are_made_while_another_job_runs(
    database: Database, settings: Settings, broker: RedisBroker, bank: Bank
) -> None:
    """Each queue has its own worker, as in workers/main.py. Here the worker of the other jobs does not even run."""
    assert settings
    worker = Worker(broker, queues={STATEMENTS_QUEUE}, worker_threads=1, worker_timeout=20)
    worker.start()
    try:
        broker.enqueue(message("verify", JOBS_QUEUE))
        broker.enqueue(message(CLOSE_MONTHS, STATEMENTS_QUEUE))
        broker.enqueue(message(MAKE_GROUP, STATEMENTS_QUEUE, 1))
        eventually(lambda: len(rows(database, "SELECT id FROM statements")) == 2)
    finally:
        worker.stop()
    assert rows(database, "SELECT id FROM verifications") == []
