"""The verification finds breaches: for every rule, a ledger in which exactly that rule was broken by hand."""

from collections.abc import Callable
from uuid import UUID

import pytest

from core.domain.ledger import MILESTONE
from core.domain.users import Role
from core.services.identity import operators
from core.services.verification import RULES, Report, scan, verify
from core.services.verification import report as reports
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import (
    Bank,
    accept,
    accepted,
    add_user,
    author,
    balance_of,
    from_ada_to_bob,
    from_bob_to_ada,
    fund,
    open_account,
    rows,
    set_account,
    set_limit,
    settle_all,
    transfer_request,
)
from tests.months import make_statements
from tests.tampering import LANES_FIT, TOTALS_FIT, forget_types, recompute_chain, tamper
from tests.time_travel import Clock
from tests.unit.services.verification.breaks import (
    ADA,
    ADAS_FIRST_LEG,
    BREAKS,
    BREAKS_OF_BLOCKS,
    BREAKS_OF_STATEMENTS,
    BREAKS_OF_TYPES,
    BROKEN_BELOW,
    BROKEN_ELSEWHERE,
    COMPLETE_THE_FAILED,
    JANUARY,
    LAST_CREDIT,
    LAST_PAIR,
    LAST_SETTLED,
    OF_ADA,
    PAYER,
)

pytestmark = pytest.mark.funded(ada_has=1000, bob_has=500)


@pytest.fixture
def bank(database: Database, bank: Bank) -> Bank:
    """A bank with legs of several transfers, a failed one, and pending ones."""
    with unit_of_work(database) as connection:
        yen = open_account(connection, bank.ada, "JPY")
    fund(database, yen, 77)
    for request in (from_ada_to_bob(bank, 100), from_bob_to_ada(bank, 30), from_ada_to_bob(bank, 1)):
        accepted(database, request)
    settle_all(database)
    too_much = accepted(database, from_bob_to_ada(bank, 571))
    with unit_of_work(database) as connection:
        connection.exec_driver_sql("UPDATE users SET is_active = 0 WHERE id = ?", (bank.bob.id,))
    settle_all(database)
    assert verify(database).holds, too_much
    accepted(database, from_ada_to_bob(bank, 40))
    accepted(database, from_ada_to_bob(bank, 2))
    return bank


@pytest.fixture
def edit(database: Database, bank: Bank) -> Callable[..., Report]:
    """Change the file without Giro, recompute the hashes of its blocks, and verify it."""

    def edit_and_verify(*statements: str, recompute: bool = True) -> Report:
        tamper(database, *statements)
        if recompute:
            recompute_chain(database)
        return verify(database)

    return edit_and_verify


@pytest.fixture
def months(database: Database, clock: Clock, edit: Callable[..., Report]) -> Callable[..., Report]:
    """Like `edit`, on a ledger with statements of two months, and legs in both of them and after."""
    assert edit, "Ada's and Bob's transfers of January"
    with unit_of_work(database) as connection:
        connection.exec_driver_sql("UPDATE users SET is_active = 1")
    for month in (2, 3):
        clock.set(2026, month, 3)
        make_statements(database)
        assert settle_all(database) == (2 if month == 2 else 0)
    assert verify(database).holds
    return edit


def broken(report: Report) -> set[str]:
    assert not report.holds
    assert set(report.counts) == {breach.rule for breach in report.breaches}
    return set(report.counts)


def test_a_healthy_ledger_holds(database: Database, bank: Bank) -> None:
    report = verify(database)
    assert report.holds
    assert (report.breaches, dict(report.counts)) == ([], {})
    assert (report.accounts, report.transfers, report.transactions) == (5, 9, 12)


def test_an_empty_ledger_holds(database: Database) -> None:
    report = verify(database)
    assert report.holds
    assert (report.accounts, report.transfers, report.transactions) == (0, 0, 0)


@pytest.mark.parametrize(("rules", "statements"), BREAKS)
def test_a_broken_rule_is_found_and_no_other_is_reported(
    edit: Callable[..., Report], rules: str, statements: list[str]
) -> None:
    assert broken(edit(*statements)) == set(rules.split())


@pytest.mark.parametrize(
    ("rules", "statements"),
    [row for row in BREAKS if any(name in " ".join(row[1]) for name in (LAST_PAIR, LAST_SETTLED))],
)
def test_a_change_of_an_ended_transfer_is_found_by_its_block_among_other_breaches(
    edit: Callable[..., Report], rules: str, statements: list[str]
) -> None:
    found = broken(edit(*statements, recompute=False))
    assert found - {"block_recomputes"} == set(rules.split())
    assert "block_recomputes" in found


@pytest.mark.parametrize(("rules", "statements"), BREAKS_OF_BLOCKS)
def test_a_consistent_ledger_that_does_not_match_its_blocks_is_found(
    edit: Callable[..., Report], rules: str, statements: list[str]
) -> None:
    assert broken(edit(*statements, recompute=False)) == set(rules.split())


@pytest.mark.parametrize("table", ["accounts", "reservations", "transactions", "transfers", "endings"])
def test_values_of_a_wrong_type_are_found(edit: Callable[..., Report], database: Database, table: str) -> None:
    forget_types(database, table)
    for changed, statement in BREAKS_OF_TYPES:
        if changed == table:
            assert "values_are_integers" in broken(edit(statement, recompute=False))


def test_a_block_that_cancels_a_transfer_that_is_not_cancelled_is_found(edit: Callable[..., Report]) -> None:
    report = edit(
        "INSERT INTO blocks SELECT height + 1, 'cancellation', first_leg_id + leg_count, 0, "
        "(SELECT max(id) FROM transfers), (SELECT max(id) FROM transfers), 1, made_at, hash FROM blocks "
        "ORDER BY height DESC LIMIT 1",
        recompute=False,
    )
    assert broken(report) == {"blocks_are_whole"}


@pytest.mark.parametrize(("rule", "statements"), BREAKS_OF_STATEMENTS)
def test_a_changed_statement_is_found_and_no_other_rule_is_reported(
    months: Callable[..., Report], rule: str, statements: list[str]
) -> None:
    assert broken(months(*statements)) == {rule}


def test_a_statement_whose_end_differs_from_the_beginning_of_the_next_is_found(months: Callable[..., Report]) -> None:
    report = months(f"UPDATE statements SET closing_transaction_id = 1 WHERE {JANUARY}")
    assert broken(report) == {"statement_recomputes", "statements_follow"}


def test_a_leg_moved_into_another_month_is_found(months: Callable[..., Report]) -> None:
    start = "(SELECT ends_at FROM statement_runs WHERE id = 1)"
    legs = f"transfer_id = (SELECT max(transfer_id) FROM transactions WHERE posted_at < {start})"
    report = months(f"UPDATE transactions SET posted_at = {start} WHERE {legs}")
    assert broken(report) == {"statement_recomputes"}


def test_a_balance_below_its_limit_is_found(edit: Callable[..., Report], database: Database, bank: Bank) -> None:
    set_limit(database, bank.bob_account, 1000)
    with unit_of_work(database) as connection:
        connection.exec_driver_sql("UPDATE users SET is_active = 1 WHERE id = ?", (bank.bob.id,))
    accepted(database, from_bob_to_ada(bank, 1500))
    settle_all(database)
    assert verify(database).holds
    report = edit("UPDATE accounts SET overdraft_limit = 100 WHERE balance < 0 AND kind = 'customer'")
    assert broken(report) == {"balance_within_limit", "limit_was_set", "file_is_sound"}


@pytest.mark.parametrize(
    ("limits", "lowest", "holds"),
    [
        # The limits that an operator sets; in between, the balance goes down to `lowest` and back to 500.
        ([1000, 0], -1000, True),
        ([1000, 0], -999, True),
        ([1000, 400, 2000], -1000, True),
        ([1000, 400, 2000], -1001, False),
        ([100], -101, False),
    ],
)
def test_a_balance_is_checked_against_the_limit_of_its_time(
    database: Database, bank: Bank, edit: Callable[..., Report], limits: list[int], lowest: int, holds: bool
) -> None:
    with unit_of_work(database) as connection:
        connection.exec_driver_sql("UPDATE users SET is_active = 1")
        operator = add_user(connection, role=Role.OPERATOR)
        operators.set_overdraft_limit(connection, author(operator), bank.bob_account, limits[0])
    set_account(
        database, bank.bob_account, overdraft_limit=5000
    )  # settlement without its check would act on this value
    settle_all(database)
    start = balance_of(database, bank.bob_account)
    accepted(database, from_bob_to_ada(bank, start - lowest))
    settle_all(database)
    accepted(database, from_ada_to_bob(bank, 500 - lowest))
    settle_all(database)
    set_account(database, bank.bob_account, overdraft_limit=limits[0])
    with unit_of_work(database) as connection:
        for limit in limits[1:]:
            operators.set_overdraft_limit(connection, author(operator), bank.bob_account, limit)
    assert verify(database).holds is holds
    if not holds:
        assert broken(verify(database)) == {"balance_within_limit"}


def test_every_rule_has_a_ledger_that_breaks_it() -> None:
    tables = BREAKS + BREAKS_OF_BLOCKS + BREAKS_OF_STATEMENTS
    broken_here = {rule for rules, _ in tables for rule in rules.split()}
    assert broken_here | BROKEN_BELOW | BROKEN_ELSEWHERE == set(RULES)


def test_a_leg_whose_amount_differs_from_its_transfer_is_found_even_if_the_last_balance_is_right(
    edit: Callable[..., Report],
) -> None:
    report = edit(f"UPDATE transactions SET amount = amount + 1 WHERE {ADAS_FIRST_LEG}")
    assert broken(report) == {
        *("legs_match_transfer", "balance_after_recomputes", "balance_is_sum_of_legs", "currency_sums_to_zero"),
        "totals_are_running",
    }


def test_a_changed_milestone_is_found(database: Database, edit: Callable[..., Report]) -> None:
    with unit_of_work(database) as connection:
        connection.exec_driver_sql("UPDATE users SET is_active = 1")
        ada, payee = connection.exec_driver_sql(
            "SELECT a.public_id, b.public_id FROM accounts a JOIN accounts b ON b.id = a.id + 1 WHERE a.kind = "
            "'customer' AND a.currency = 'USD' LIMIT 1"
        ).one()
        owner = connection.exec_driver_sql("SELECT owner_id FROM accounts WHERE public_id = ?", (ada,)).scalar_one()
    small = transfer_request(submitted_by=owner, payer=UUID(bytes=ada), payee=UUID(bytes=payee), amount=1)
    accept(database, *[small] * MILESTONE)
    settle_all(database)
    assert verify(database).holds
    for column in ("leg_count", "credits_low", "transaction_id", "posted_at"):
        assert broken(edit(f"UPDATE milestones SET {column} = {column} + 1")) == {"totals_are_running"}
        assert edit(f"UPDATE milestones SET {column} = {column} - 1").holds
    assert broken(edit("DELETE FROM milestones")) == {"totals_are_running"}


def test_half_of_a_transfer_is_found(edit: Callable[..., Report]) -> None:
    report = edit(
        f"DELETE FROM transactions WHERE {LAST_CREDIT}",
    )
    assert {"legs_match_transfer", "chain_is_whole", "balance_is_sum_of_legs"} <= broken(report)


def test_a_transfer_executed_twice_is_found(edit: Callable[..., Report]) -> None:
    report = edit(
        "INSERT INTO transactions (transfer_id, account_id, amount, balance_after, posted_at, previous_id) "
        "SELECT transfer_id, account_id, amount, balance_after + amount, posted_at, id FROM transactions "
        f"WHERE {LAST_PAIR} ORDER BY id",
        "UPDATE accounts SET last_transaction_id = (SELECT max(id) FROM transactions WHERE account_id = accounts.id), "
        "balance = coalesce((SELECT sum(amount) FROM transactions WHERE account_id = accounts.id), 0)",
        TOTALS_FIT,
        LANES_FIT,
    )
    assert broken(report) == {"legs_match_transfer"}


def test_legs_of_a_missing_transfer_are_found(edit: Callable[..., Report]) -> None:
    report = edit("DELETE FROM transfers WHERE id = (SELECT max(transfer_id) FROM transactions)", recompute=False)
    assert {"completed_has_legs", "blocks_are_whole", "file_is_sound"} <= broken(report)


def test_a_missing_row_of_reservations_is_found(edit: Callable[..., Report]) -> None:
    report = edit(f"DELETE FROM reservations WHERE {OF_ADA}")
    assert broken(report) == {"values_are_integers", "currency_sums_to_zero"}, "nothing of the account can be checked"


def test_legs_of_a_missing_account_are_found(edit: Callable[..., Report]) -> None:
    report = edit(f"DELETE FROM accounts WHERE {ADA}")
    assert {"chain_is_whole", "currency_sums_to_zero"} <= broken(report)


def test_a_completed_transfer_without_legs_is_found_even_if_another_has_too_many(
    edit: Callable[..., Report],
) -> None:
    report = edit(
        COMPLETE_THE_FAILED,
        f"UPDATE endings SET status = 'failed', failure_code = 'account_closed', payer_id = {PAYER} "
        "WHERE id = (SELECT max(transfer_id) FROM transactions)",
    )
    assert broken(report) == {"completed_has_legs"}


def test_breaches_beyond_the_listed_maximum_are_counted(
    edit: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "MOST_BREACHES", 2)
    report = edit("UPDATE reservations SET reserved_low = reserved_low + 1000")
    assert report.counts["reserved_is_pending"] == 5
    assert len(report.breaches) == 2
    assert not report.holds


def test_a_breach_names_its_place(edit: Callable[..., Report], database: Database) -> None:
    (breach,) = edit(f"UPDATE accounts SET released_low = released_low + 42 WHERE {ADA}").breaches
    assert breach.rule == "reserved_is_pending"
    assert breach.detail.startswith("account ")
    assert "42" in breach.detail


@pytest.mark.parametrize(
    ("statement", "places"),
    [
        (f"UPDATE reservations SET reserved_low = 0 WHERE {OF_ADA}", ("account",)),
        (f"UPDATE accounts SET overdraft_limit = 7 WHERE {ADA}", ("account",)),
        (f"UPDATE transactions SET balance_after = balance_after + 1 WHERE {LAST_CREDIT}", ("account", "transfer")),
        (f"UPDATE transfers SET currency = 'EUR' WHERE {LAST_SETTLED}", ("transfer",)),
        ("UPDATE endings SET payer_id = payer_id - 1 WHERE status = 'failed'", ("transfer",)),
        ("UPDATE blocks SET hash = zeroblob(32) WHERE height = 2", ("block",)),
    ],
)
def test_a_breach_names_the_rows_where_a_rule_is_broken(
    edit: Callable[..., Report], database: Database, statement: str, places: tuple[str, ...]
) -> None:
    found = edit(statement, recompute="blocks" not in statement).breaches[0].places
    assert tuple(found) == places
    for kind, row in found.items():
        column = "height" if kind == "block" else "id"
        assert rows(database, f"SELECT 1 FROM {kind}s WHERE {column} = {row}")


def test_progress_is_reported_periodically_and_at_the_end(
    database: Database, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "PROGRESS_EVERY", 2)
    told: list[tuple[int, int]] = []
    verify(database, progress=lambda done, of: told.append((done, of)))
    assert told == [(2, 12), (4, 12), (6, 12), (8, 12), (10, 12), (12, 12), (12, 12)]


def test_a_verification_changes_nothing(database: Database, bank: Bank) -> None:
    with database.reader.connect() as connection:
        before = connection.exec_driver_sql("PRAGMA data_version").scalar_one()
        verify(database)
        assert connection.exec_driver_sql("PRAGMA data_version").scalar_one() == before
