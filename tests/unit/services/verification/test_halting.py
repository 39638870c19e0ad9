"""A ledger that fails verification: transfers are accepted, but none ends until a verification holds."""

import json
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from core.clock import now_us, to_datetime
from core.domain.transfers import AcceptedTransfer, TransferStatus
from core.services import verification
from core.services.transfers import cancelling
from core.services.verification import LedgerHalted, Report, verify
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import Bank, accepted, from_ada_to_bob, rows, settle_all, status_of
from tests.tampering import tamper
from tests.time_travel import Clock

PENDING, COMPLETED, CANCELLED = TransferStatus.PENDING, TransferStatus.COMPLETED, TransferStatus.CANCELLED

BREAK = "UPDATE accounts SET released_low = released_low + 1 WHERE kind = 'customer' AND balance = 0"
FIX = "UPDATE accounts SET released_low = released_low - 1 WHERE kind = 'customer' AND balance = 0"


@pytest.fixture
def pending(database: Database, bank: Bank) -> AcceptedTransfer:
    return accepted(database, from_ada_to_bob(bank))


def keep(database: Database) -> Report:
    started_at = to_datetime(now_us())
    report = verify(database)
    with unit_of_work(database) as connection:
        assert verification.keep(connection, report, started_at=started_at)
    return report


def is_halted() -> bool:
    return REGISTRY.get_sample_value("giro_settlement_halted") == 1


def events(logs: list[Any], name: str) -> int:
    return sum(entry["event"] == name for entry in logs)


def test_nothing_is_settled_between_a_breach_and_the_next_verification_that_holds(
    database: Database, pending: AcceptedTransfer
) -> None:
    tamper(database, BREAK)
    assert not keep(database).holds
    with capture_logs() as logs:
        assert [settle_all(database) for _ in range(3)] == [0, 0, 0]
    assert (status_of(database, pending), is_halted()) == (PENDING, True)
    assert events(logs, "settlement_halted") == 1
    tamper(database, FIX)
    assert settle_all(database) == 0, "only a verification can show that the ledger holds again"
    assert keep(database).holds
    with capture_logs() as logs:
        assert settle_all(database) == 1
    assert (status_of(database, pending), is_halted()) == (COMPLETED, False)
    assert events(logs, "settlement_goes_on") == 1
    assert verify(database).holds


def test_a_verification_that_holds_does_not_override_a_breach_found_meanwhile(database: Database, bank: Bank) -> None:
    accepted(database, from_ada_to_bob(bank))
    settle_all(database)
    keep(database)
    tamper(database, "UPDATE transfers SET description = 'forged' WHERE id = 1")
    started_at = to_datetime(now_us())
    recent = verification.verify_recent(database)
    assert recent.holds, "the change is in rows before those it reads"
    assert not keep(database).holds
    with unit_of_work(database) as connection:
        assert not verification.keep(connection, recent, started_at=started_at)
        with pytest.raises(LedgerHalted):
            verification.require_sound(connection)
    assert not verification.verify_recent(database).holds, "the next one reads everything"


def test_transfers_are_still_accepted(database: Database, bank: Bank) -> None:
    tamper(database, BREAK)
    keep(database)
    assert status_of(database, accepted(database, from_ada_to_bob(bank))) is PENDING


def test_nothing_is_cancelled_either(database: Database, bank: Bank, pending: AcceptedTransfer) -> None:
    tamper(database, BREAK)
    keep(database)

    def cancel() -> None:
        with unit_of_work(database) as connection:
            cancelling.cancel(connection, user_id=bank.ada.id, transfer_id=pending.id)

    with pytest.raises(LedgerHalted, match="does not verify"):
        cancel()
    assert status_of(database, pending) is PENDING
    tamper(database, FIX)
    keep(database)
    cancel()
    assert status_of(database, pending) is CANCELLED


BOTH = ["blocks_are_whole", "lanes_go_on"]
ENDS: dict[str, tuple[str, list[str]]] = {
    "the last legs are missing": ("DELETE FROM transactions WHERE id IN (1, 2)", BOTH),
    "somebody added a leg": ("INSERT INTO transactions VALUES (3, 1, 1, 5, 5, 0, NULL)", BOTH),
    "the last block is missing": ("DELETE FROM blocks WHERE height = 1", ["blocks_are_whole"]),
    "there is no block": ("DELETE FROM blocks", ["blocks_are_whole"]),
    "the next leg has a number twice": ("UPDATE lanes SET next_id = 2 WHERE name = 'settle'", ["lanes_go_on"]),
    "the next leg leaves a gap": ("UPDATE lanes SET next_id = 4 WHERE name = 'settle'", ["lanes_go_on"]),
}
"""Statements that change where the ledger ends, and the rules that this breaks."""


@pytest.mark.parametrize("end", ENDS)
def test_an_end_that_does_not_match_the_chain_halts_settlement_before_the_next_transfer(
    database: Database, pending: AcceptedTransfer, end: str
) -> None:
    statement, rules = ENDS[end]
    tamper(database, statement)
    assert settle_all(database) == 0
    assert (status_of(database, pending), is_halted()) == (PENDING, True)
    (kept,) = rows(database, "SELECT breaches, details FROM verifications")
    assert kept["breaches"] == len(rules)
    assert [rule for rule, *_ in json.loads(kept["details"])] == rules
    assert not verify(database).holds
    assert settle_all(database) == 0
    assert len(rows(database, "SELECT 1 FROM verifications")) == 1, "it is stored once"


@pytest.mark.parametrize("end", ENDS)
def test_finding_a_breach_writes_nothing_and_storing_it_is_a_separate_step(
    database: Database, pending: AcceptedTransfer, end: str
) -> None:
    statement, rules = ENDS[end]
    tamper(database, statement)
    with unit_of_work(database) as connection:
        assert verification.find_breach(connection)
        with pytest.raises(LedgerHalted) as halted:
            verification.require_sound(connection)
        assert connection.exec_driver_sql("SELECT count(*) FROM verifications").scalar() == 0
        verification.keep_breach(connection, halted.value)
        with pytest.raises(LedgerHalted) as again:
            verification.require_sound(connection)
        verification.keep_breach(connection, again.value)
    assert rows(database, "SELECT breaches FROM verifications") == [{"breaches": len(rules)}]


def test_a_transfer_pending_for_too_long_is_a_warning_and_halts_nothing(
    database: Database, bank: Bank, clock: Clock
) -> None:
    clock.advance(days=4000)
    pending = accepted(database, from_ada_to_bob(bank))
    clock.advance(seconds=61)
    report = keep(database)
    assert report.holds
    assert report.warnings == ["1 transfers have been pending for more than 60 s"]
    assert settle_all(database) == 1
    assert status_of(database, pending) is COMPLETED
