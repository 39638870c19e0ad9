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
from tests.tampering import TOTALS_FIT, forget_types, recompute_chain, tamper
from tests.time_travel import Clock

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


ADA = "id = (SELECT min(id) FROM accounts WHERE kind = 'customer')"
ADAS_FIRST_LEG = f"id = (SELECT min(id) FROM transactions WHERE account_id = (SELECT id FROM accounts WHERE {ADA}))"
ADAS_LAST_LEG = f"id = (SELECT last_transaction_id FROM accounts WHERE {ADA})"
LAST_SETTLED = "id = (SELECT max(transfer_id) FROM transactions)"
NEWEST = "id = (SELECT max(id) FROM transfers)"
LAST_PAIR = "transfer_id = (SELECT max(transfer_id) FROM transactions)"
LAST_DEBIT = f"{LAST_PAIR} AND amount < 0"
LAST_CREDIT = f"{LAST_PAIR} AND amount > 0"

BREAKS: list[tuple[str, list[str]]] = [
    # Rules, and statements that each break exactly one of them.
    # A raised balance breaks two rules at once: its own legs, and the sum of its currency.
    (
        "currency_sums_to_zero balance_is_sum_of_legs",
        [f"UPDATE accounts SET balance = balance + 5 WHERE {ADA}"],
    ),
    (
        "currency_sums_to_zero balance_is_sum_of_legs",
        ["UPDATE accounts SET balance = balance + 1 WHERE kind = 'external'"],
    ),
    (
        "balance_is_sum_of_legs",
        [
            f"UPDATE accounts SET balance = balance + 5 WHERE {ADA}",
            "UPDATE accounts SET balance = balance - 5 WHERE kind = 'external' AND currency = 'USD'",
        ],
    ),
    ("balance_after_recomputes", [f"UPDATE transactions SET balance_after = balance_after + 1 WHERE {LAST_CREDIT}"]),
    (
        "balance_after_recomputes",
        [f"UPDATE transactions SET balance_after = balance_after + 1 WHERE {ADAS_FIRST_LEG}"],
    ),
    (
        "chain_is_whole",
        [f"UPDATE transactions SET previous_id = previous_id - 1 WHERE {ADAS_LAST_LEG}"],
    ),
    ("chain_is_whole", [f"UPDATE transactions SET previous_id = NULL WHERE {ADAS_LAST_LEG}"]),
    ("chain_is_whole", [f"UPDATE accounts SET last_transaction_id = last_transaction_id - 1 WHERE {ADA}"]),
    ("chain_is_whole", [f"UPDATE accounts SET last_transaction_id = NULL WHERE {ADA}"]),
    ("time_never_goes_back", [f"UPDATE transactions SET posted_at = posted_at - 3600000000 WHERE {LAST_PAIR}"]),
    (
        "legs_match_transfer",
        ["UPDATE transfers SET amount = amount + 1 WHERE id = (SELECT max(transfer_id) FROM transactions)"],
    ),
    (
        "legs_match_transfer transfer_chain_is_whole",
        [f"UPDATE transfers SET from_account_id = to_account_id, to_account_id = from_account_id WHERE {LAST_SETTLED}"],
    ),
    (
        "completed_has_legs",
        [
            "UPDATE transfers SET status = 'completed', failure_code = NULL WHERE status = 'failed'",
        ],
    ),
    (
        "completed_has_legs blocks_are_whole",
        [
            "UPDATE transfers SET status = 'cancelled' WHERE id = (SELECT max(transfer_id) FROM transactions)",
            "UPDATE transfers SET status = 'completed', failure_code = NULL WHERE status = 'failed'",
        ],
    ),
    ("limit_was_set", [f"UPDATE accounts SET overdraft_limit = overdraft_limit + 1000 WHERE {ADA}"]),
    ("reserved_is_pending", [f"UPDATE accounts SET reserved = reserved + 1 WHERE {ADA}"]),
    ("reserved_is_pending", [f"UPDATE accounts SET reserved = 0 WHERE {ADA}"]),
    ("reserved_is_pending", [f"UPDATE accounts SET pending_count = pending_count - 1 WHERE {ADA}"]),
    ("totals_are_running", [f"UPDATE accounts SET leg_count = leg_count + 1 WHERE {ADA}"]),
    ("totals_are_running", [f"UPDATE accounts SET credits_low = credits_low - 1 WHERE {ADA}"]),
    ("totals_are_running", [f"UPDATE accounts SET credits_high = 1 WHERE {ADA}"]),
    ("totals_are_running", ["INSERT INTO milestones SELECT id, 1, last_transaction_id, 1, 0, 0 FROM accounts LIMIT 1"]),
    ("transfer_chain_is_whole", [f"UPDATE transfers SET previous_id = previous_id - 1 WHERE {LAST_SETTLED}"]),
    ("transfer_chain_is_whole", [f"UPDATE transfers SET previous_id = NULL WHERE {NEWEST}"]),
    ("transfer_chain_is_whole", [f"UPDATE accounts SET last_transfer_id = last_transfer_id - 1 WHERE {ADA}"]),
    ("time_never_goes_back", [f"UPDATE transfers SET created_at = created_at - 3600000000 WHERE {NEWEST}"]),
    ("legs_match_transfer", [f"UPDATE transfers SET currency = 'EUR' WHERE {LAST_SETTLED}"]),
    # SQLite also finds it, by its CHECKs.
    ("ending_is_whole file_is_sound", [f"UPDATE transfers SET failure_code = 'account_closed' WHERE {LAST_SETTLED}"]),
    # SQLite also finds it, by its CHECKs.
    ("ending_is_whole file_is_sound", [f"UPDATE transfers SET settled_at = 5 WHERE {NEWEST}"]),
    ("file_is_sound", [f"UPDATE transfers SET submitted_by = 999 WHERE {NEWEST}"]),
    ("file_is_sound", ["INSERT INTO refresh_tokens VALUES (1, 999, x'00', x'00', 0, 0, 1, NULL)"]),
    (
        "keys_are_unique schema_is_whole",
        [
            "DROP INDEX uq_transfers_idempotency_key",
            "UPDATE transfers SET idempotency_key = 'a', fingerprint = x'00' WHERE status = 'pending'",
        ],
    ),
    (
        "blocks_are_whole",
        [
            f"UPDATE transfers SET status = 'cancelled', settled_at = created_at WHERE {NEWEST}",
            f"UPDATE accounts SET reserved = 40, pending_count = 1 WHERE {ADA}",
        ],
    ),
]
BREAKS_OF_BLOCKS: list[tuple[str, list[str]]] = [
    ("block_recomputes", ["UPDATE blocks SET hash = zeroblob(32) WHERE height = 2"]),
    ("block_recomputes", ["UPDATE transfers SET description = 'for supper' WHERE status = 'failed'"]),
    ("block_recomputes", [f"UPDATE transfers SET settled_at = settled_at + 1 WHERE {LAST_SETTLED}"]),
    ("block_recomputes", ["UPDATE transfers SET failure_code = 'account_closed' WHERE status = 'failed'"]),
    ("block_recomputes", ["UPDATE transfers SET public_id = randomblob(16) WHERE id = 2"]),
    ("block_recomputes", [f"UPDATE transfers SET request_id = 'another' WHERE {LAST_SETTLED}"]),
    ("block_recomputes", [f"UPDATE transactions SET posted_at = posted_at + 1 WHERE {LAST_PAIR}"]),
    ("block_recomputes", ["UPDATE blocks SET hash = (SELECT hash FROM blocks WHERE height = 3) WHERE height = 2"]),
    ("blocks_are_whole", ["UPDATE blocks SET leg_count = leg_count - 1 WHERE height = 2"]),
    ("blocks_are_whole", ["UPDATE blocks SET last_sequence = last_sequence - 1 WHERE height = 4"]),
    ("blocks_are_whole", ["DELETE FROM blocks WHERE height = (SELECT max(height) FROM blocks)"]),
    ("blocks_are_whole", ["DELETE FROM blocks WHERE height = 0"]),
    ("blocks_are_whole", ["DELETE FROM blocks"]),
]
BREAKS_OF_TYPES = [
    ("accounts", "UPDATE accounts SET balance = 'much' WHERE currency = 'JPY' AND kind = 'customer'"),
    ("accounts", f"UPDATE accounts SET reserved = 42.0 WHERE {ADA}"),
    ("transactions", f"UPDATE transactions SET amount = 1.5 WHERE {LAST_DEBIT}"),
    ("transfers", f"UPDATE transfers SET amount = 1.0 WHERE {LAST_SETTLED}"),
    ("transfers", f"UPDATE transfers SET amount = '2' WHERE {NEWEST}"),
]
JANUARY = "run_id = 1 AND account_id = (SELECT min(id) FROM accounts WHERE kind = 'customer')"
FEBRUARY = JANUARY.replace("run_id = 1", "run_id = 2")
BREAKS_OF_STATEMENTS: list[tuple[str, list[str]]] = [
    ("statements_follow", [f"UPDATE statements SET number = 3 WHERE {FEBRUARY}"]),
    ("statements_follow", ["UPDATE statements SET number = number + 1"]),
    (
        "statements_follow",
        [f"DELETE FROM statements WHERE {JANUARY}", "UPDATE statement_runs SET statements = 2 WHERE id = 1"],
    ),
    ("run_counts_statements", [f"DELETE FROM statements WHERE {FEBRUARY}"]),
    ("run_counts_statements", ["UPDATE statement_runs SET statements = statements + 1 WHERE id = 1"]),
    ("statement_recomputes", [f"UPDATE statements SET opening_balance = opening_balance + 1 WHERE {FEBRUARY}"]),
    ("statement_recomputes", [f"UPDATE statements SET closing_balance = closing_balance + 1 WHERE {JANUARY}"]),
    ("statement_recomputes", [f"UPDATE statements SET total_credits = '1001' WHERE {JANUARY}"]),
    ("statement_recomputes", [f"UPDATE statements SET total_debits = '0' WHERE {JANUARY}"]),
    ("statement_recomputes", [f"UPDATE statements SET transaction_count = transaction_count + 1 WHERE {JANUARY}"]),
    ("statement_recomputes", [f"UPDATE statements SET closing_transaction_id = 1 WHERE {FEBRUARY}"]),
]
BROKEN_BELOW = {"balance_within_limit", "values_are_integers"}
"""Rules that need more than statements; they have their own tests."""
BROKEN_ELSEWHERE = {"anchor_holds", "batch_is_whole", "scar_is_signed", "schema_is_whole"}
"""See test_anchors.py, test_batches.py, test_resealing.py and test_corruption.py."""


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


@pytest.mark.parametrize(("rule", "statements"), BREAKS_OF_BLOCKS)
def test_a_consistent_ledger_that_does_not_match_its_blocks_is_found(
    edit: Callable[..., Report], rule: str, statements: list[str]
) -> None:
    assert broken(edit(*statements, recompute=False)) == {rule}


@pytest.mark.parametrize("table", ["accounts", "transactions", "transfers"])
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
    )
    assert broken(report) == {"legs_match_transfer"}


def test_legs_of_a_missing_transfer_are_found(edit: Callable[..., Report]) -> None:
    report = edit("DELETE FROM transfers WHERE id = (SELECT max(transfer_id) FROM transactions)", recompute=False)
    assert {"completed_has_legs", "blocks_are_whole", "file_is_sound"} <= broken(report)


def test_legs_of_a_missing_account_are_found(edit: Callable[..., Report]) -> None:
    report = edit(f"DELETE FROM accounts WHERE {ADA}")
    assert {"chain_is_whole", "currency_sums_to_zero"} <= broken(report)


def test_a_completed_transfer_without_legs_is_found_even_if_another_has_too_many(
    edit: Callable[..., Report],
) -> None:
    report = edit(
        "UPDATE transfers SET status = 'failed', failure_code = 'account_closed' "
        "WHERE id = (SELECT max(transfer_id) FROM transactions)",
        "UPDATE transfers SET status = 'completed', failure_code = NULL WHERE failure_code = 'owner_inactive'",
    )
    assert broken(report) == {"completed_has_legs"}


def test_breaches_beyond_the_listed_maximum_are_counted(
    edit: Callable[..., Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "MOST_BREACHES", 2)
    report = edit("UPDATE accounts SET reserved = reserved + 1000")
    assert report.counts["reserved_is_pending"] == 5
    assert len(report.breaches) == 2
    assert not report.holds


def test_a_breach_names_its_place(edit: Callable[..., Report], database: Database) -> None:
    (breach,) = edit(f"UPDATE accounts SET reserved = 0 WHERE {ADA}").breaches
    assert breach.rule == "reserved_is_pending"
    assert breach.detail.startswith("account ")
    assert "42" in breach.detail


@pytest.mark.parametrize(
    ("statement", "places"),
    [
        (f"UPDATE accounts SET reserved = 0 WHERE {ADA}", ("account",)),
        (f"UPDATE accounts SET overdraft_limit = 7 WHERE {ADA}", ("account",)),
        (f"UPDATE transactions SET balance_after = balance_after + 1 WHERE {LAST_CREDIT}", ("account", "transfer")),
        (f"UPDATE transfers SET currency = 'EUR' WHERE {LAST_SETTLED}", ("transfer",)),
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
