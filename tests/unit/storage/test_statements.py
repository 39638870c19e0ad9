"""Figures: the totals of an account's legs in a time span, computed along its chain from any later leg."""

from itertools import combinations, product

import pytest

from core.clock import to_us
from core.domain import ledger
from core.domain.statements import Figures, Period
from core.storage import running_totals
from core.storage import statements as stored
from core.storage.sqlite.engine import Database
from tests.builders import Bank, accepted, bank_of_two, from_ada_to_bob, from_bob_to_ada, rows, settle_all
from tests.months import UTC_ZONE
from tests.time_travel import Clock

JANUARY, FEBRUARY, MARCH = Period(2026, 1), Period(2026, 2), Period(2026, 3)


@pytest.fixture(params=[1, 3, 128])
def busy(database: Database, clock: Clock, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Bank:
    """A bank with transfers in both directions from January to April; some months have only one direction."""
    monkeypatch.setattr(ledger, "MILESTONE", request.param)
    bank = bank_of_two(database, ada_has=1000, bob_has=100)
    for number in range(1, 9):
        accepted(database, from_ada_to_bob(bank, 10 + number))
        if number % 3:
            accepted(database, from_bob_to_ada(bank, number))
        settle_all(database)
        clock.advance(days=12)
    clock.now = Period(2026, 5).starts_at(UTC_ZONE)
    for _ in range(2):  # several legs at the first instant of a month
        accepted(database, from_ada_to_bob(bank, 5))
        settle_all(database)
    return bank


def test_figures_equal_a_plain_sql_sum_from_any_beginning_of_the_walk(database: Database, busy: Bank) -> None:
    times = [JANUARY, FEBRUARY, MARCH, *(Period(2026, month) for month in (4, 5, 6))]
    bounds = [period.starts_at(UTC_ZONE) for period in times]
    for account_id, (starts_at, ends_at) in product((2, 3), combinations(bounds, 2)):
        legs = rows(database, "SELECT * FROM transactions WHERE account_id = ? ORDER BY id", account_id)
        before = [leg for leg in legs if leg["posted_at"] < to_us(starts_at)]
        within = [leg for leg in legs if to_us(starts_at) <= leg["posted_at"] < to_us(ends_at)]
        through = before + within
        expected = Figures(
            opening_balance=sum(leg["amount"] for leg in before),
            closing_balance=sum(leg["amount"] for leg in through),
            total_credits=sum(leg["amount"] for leg in within if leg["amount"] > 0),
            total_debits=-sum(leg["amount"] for leg in within if leg["amount"] < 0),
            transaction_count=len(within),
            opening_transaction_id=before[-1]["id"] if before else None,
            closing_transaction_id=through[-1]["id"] if through else None,
        )
        assert expected.add_up
        with database.reader.connect() as connection:
            assert running_totals.figures(connection, account_id, starts_at=starts_at, ends_at=ends_at) == expected
        for start in legs[max(len(through) - 1, 0) :]:
            with database.reader.connect() as connection:
                found = stored.figures(connection, account_id, start=start["id"], starts_at=starts_at, ends_at=ends_at)
            assert found == expected


def test_a_chain_of_another_account_has_no_figures(database: Database, busy: Bank) -> None:
    hers = rows(database, "SELECT last_transaction_id AS id FROM accounts WHERE id = 2")[0]["id"]
    span = {"starts_at": JANUARY.starts_at(UTC_ZONE), "ends_at": Period(2026, 12).ends_at(UTC_ZONE)}
    with database.reader.connect() as connection:
        found = stored.figures(connection, 3, start=hers, **span)
        assert found == stored.figures(connection, 3, start=None, **span)
    assert (found.transaction_count, found.closing_balance, found.closing_transaction_id) == (0, 0, None)
