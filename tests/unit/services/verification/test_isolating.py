"""The way back from a breach in some accounts: they are set apart, and all others go on."""

from collections.abc import Callable
from pathlib import Path

import pytest

from core.domain.audit import Author
from core.domain.errors import Refusal
from core.domain.users import SYSTEM_USER_ID
from core.services import verification
from core.services.identity import operators
from core.services.transfers import cancelling
from core.services.verification import Anchors, Report, isolating, resealing, verify, verify_recent
from core.services.verification.isolating import CannotIsolate
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import (
    WHOLE_TRANSFERS,
    Bank,
    accepted,
    account_row,
    add_user,
    author,
    from_ada_to_bob,
    from_bob_to_ada,
    fund,
    open_account,
    rows,
    settle_all,
    status_of,
    transfer_request,
)
from tests.tampering import tamper

pytestmark = pytest.mark.funded(ada_has=1000, bob_has=500)

THE_BANK = Author(user_id=SYSTEM_USER_ID, request_id="a-request", address=None)
ADA = "id = (SELECT min(id) FROM accounts WHERE kind = 'customer')"
OF_ADA = f"account_id = (SELECT id FROM accounts WHERE {ADA})"
ADAS_LEG = f"id = (SELECT last_transaction_id FROM accounts WHERE {ADA})"
BOB_TO_ADA = "id = (SELECT id FROM transfers WHERE kind = 'transfer' LIMIT 1)"

Act = Callable[[], Report]


@pytest.fixture
def anchors(tmp_path: Path) -> Anchors:
    return Anchors(tmp_path / "anchors.jsonl", None)


@pytest.fixture
def others(database: Database, bank: Bank) -> Bank:
    """Two other customers, of the same currency, who have nothing to do with Ada and Bob."""
    with unit_of_work(database) as connection:
        first, second = add_user(connection), add_user(connection)
        return Bank(first, second, open_account(connection, first), open_account(connection, second))


@pytest.fixture
def bank(database: Database, bank: Bank) -> Bank:
    accepted(database, from_bob_to_ada(bank, 30))
    settle_all(database)
    return bank


@pytest.fixture
def isolate(database: Database, anchors: Anchors) -> Act:
    return lambda: isolating.isolate(database, THE_BANK, anchors, "case 13")


@pytest.fixture
def release(database: Database, anchors: Anchors) -> Act:
    return lambda: isolating.release(database, THE_BANK, anchors)


def others_pay(database: Database, others: Bank) -> str:
    paid = accepted(
        database,
        transfer_request(submitted_by=others.ada.id, payer=others.ada_account, payee=others.bob_account, amount=1),
    )
    settle_all(database)
    return status_of(database, paid)


DAMAGES = {
    "a raised balance": f"UPDATE accounts SET balance = balance + 5 WHERE {ADA}",
    "a forged reservation": f"UPDATE reservations SET reserved_low = 0 WHERE {OF_ADA}",
    "a forged release": f"UPDATE accounts SET released_count = released_count + 1 WHERE {ADA}",
    "a lost chain": f"UPDATE accounts SET last_transaction_id = NULL WHERE {ADA}",
    "a lost chain of transfers": f"UPDATE reservations SET last_transfer_id = NULL WHERE {OF_ADA}",
    "a raised limit": f"UPDATE accounts SET overdraft_limit = 1000 WHERE {ADA}",
    "wrong totals": f"UPDATE accounts SET credits_low = credits_low + 1 WHERE {ADA}",
    "a changed leg": f"UPDATE transactions SET amount = amount + 1 WHERE {ADAS_LEG}",
    "a wrong balance after a leg": f"UPDATE transactions SET balance_after = balance_after + 1 WHERE {ADAS_LEG}",
    "a changed transfer": f"UPDATE transfers SET amount = amount + 1 WHERE {BOB_TO_ADA}",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_others_settle_while_the_accounts_of_a_breach_are_isolated(
    database: Database, bank: Bank, others: Bank, anchors: Anchors, isolate: Act, damage: str
) -> None:
    fund(database, others.ada_account, 100)
    from_isolated, to_isolated = (
        accepted(database, from_ada_to_bob(bank, 40)),
        accepted(
            database,
            transfer_request(submitted_by=others.ada.id, payer=others.ada_account, payee=bank.ada_account, amount=3),
        ),
    )
    tamper(database, DAMAGES[damage])
    report = isolate()
    assert report.holds, report.breaches
    assert report.isolated
    assert others_pay(database, others) == "completed"
    found = rows(
        database,
        f"SELECT failure_code FROM {WHOLE_TRANSFERS} WHERE public_id IN "
        f"(x'{from_isolated.id.hex}', x'{to_isolated.id.hex}') ORDER BY id",
    )
    assert [row["failure_code"] for row in found] == ["account_frozen", "payee_frozen"]
    for later in (verify(database, anchors=anchors), verify_recent(database, anchors=anchors)):
        assert later.holds, later.breaches


def test_a_new_breach_elsewhere_halts_again_and_can_be_isolated_as_well(
    database: Database, bank: Bank, others: Bank, isolate: Act
) -> None:
    tamper(database, DAMAGES["a raised balance"])
    assert isolate().holds
    fund(database, others.ada_account, 100)
    tamper(database, "UPDATE accounts SET balance = balance + 9 WHERE id = (SELECT max(id) FROM accounts)")
    assert not verify(database).holds
    assert not verify_recent(database).holds
    report = isolate()
    assert report.holds, report.breaches
    assert report.isolation is not None
    assert len(report.isolation.accounts) == 2


def test_the_sum_of_the_other_accounts_must_not_change(
    database: Database, bank: Bank, others: Bank, isolate: Act
) -> None:
    tamper(database, DAMAGES["a raised balance"])
    assert isolate().holds
    tamper(database, "UPDATE isolations SET sums = '{\"USD\": 1}'")
    assert verify(database).counts["currency_sums_to_zero"]


def test_a_further_change_in_a_broken_block_is_new(database: Database, bank: Bank, others: Bank, isolate: Act) -> None:
    tamper(
        database,
        DAMAGES["a raised balance"],
        "UPDATE transfers SET description = 'forged' WHERE id = 1",
    )
    assert isolate().holds
    tamper(database, "UPDATE transfers SET description = 'forged again' WHERE id = 1")
    assert set(verify(database).counts) == {"block_recomputes"}


def test_a_breach_that_names_no_account_is_not_isolated(database: Database, bank: Bank, isolate: Act) -> None:
    tamper(database, "UPDATE transfers SET description = 'forged' WHERE id = 1")
    with pytest.raises(CannotIsolate, match="no account can be named, first block_recomputes"):
        isolate()
    tamper(database, "DELETE FROM transactions WHERE id = (SELECT max(id) FROM transactions)")
    with pytest.raises(CannotIsolate, match="the end of the ledger is broken"):
        isolate()
    assert settle_all(database) == 0


def test_an_intact_ledger_is_not_isolated(database: Database, bank: Bank, isolate: Act, release: Act) -> None:
    with pytest.raises(CannotIsolate, match="no rule is broken"):
        isolate()
    with pytest.raises(CannotIsolate, match="no account is isolated"):
        release()


@pytest.mark.parametrize(
    ("rule", "statement"),
    [
        ("schema_is_whole", "DROP INDEX ix_blocks_cancelled"),
        ("file_is_sound", f"UPDATE accounts SET closed_at = 5 WHERE {ADA}"),
        ("values_are_integers", f"DELETE FROM reservations WHERE {OF_ADA}"),
        ("lanes_go_on", "UPDATE lanes SET next_id = next_id + 1 WHERE name = 'accept'"),
    ],
)
def test_a_damage_of_the_file_halts_although_an_account_is_isolated(
    database: Database, bank: Bank, others: Bank, isolate: Act, rule: str, statement: str
) -> None:
    fund(database, others.ada_account, 100)
    tamper(database, DAMAGES["a raised balance"])
    tamper(database, statement)
    assert set(isolate().counts) == {rule}
    assert others_pay(database, others) == "pending"


def test_accounts_are_released_with_their_earlier_status_once_they_are_repaired(
    database: Database, bank: Bank, isolate: Act, release: Act
) -> None:
    pending = accepted(database, from_ada_to_bob(bank, 40))
    tamper(database, DAMAGES["a raised balance"])
    assert isolate().holds
    assert account_row(database, bank.ada_account)["status"] == "frozen"
    settle_all(database)
    assert status_of(database, pending) == "failed"
    with pytest.raises(CannotIsolate, match="still break rules: balance_is_sum_of_legs, currency_sums_to_zero"):
        release()
    tamper(database, f"UPDATE accounts SET balance = balance - 5 WHERE {ADA}")
    assert release().holds
    assert account_row(database, bank.ada_account)["status"] == "active"
    paid = accepted(database, from_ada_to_bob(bank, 40))
    settle_all(database)
    assert status_of(database, paid) == "completed"
    report = verify(database)
    assert (report.holds, report.isolation) == (True, None)
    actions = [row["action"] for row in rows(database, "SELECT action FROM audit_entries ORDER BY id DESC LIMIT 3")]
    assert actions == ["ledger_isolation_ended", "account_isolated", "ledger_isolated"]


def test_after_a_repair_broken_blocks_halt_until_they_are_resealed(
    database: Database, bank: Bank, anchors: Anchors, isolate: Act, release: Act
) -> None:
    tamper(database, DAMAGES["a changed leg"])
    assert isolate().holds
    with unit_of_work(database) as connection:
        operator = author(add_user(connection))
    with pytest.raises(resealing.CannotReseal, match="every rule holds"):
        resealing.propose(database, operator, anchors, "too early")
    tamper(
        database,
        f"UPDATE transactions SET amount = amount - 1, posted_at = posted_at + 1 WHERE {ADAS_LEG}",
        "UPDATE lanes SET newest_at = newest_at + 1 WHERE name = 'settle'",
    )
    assert set(release().counts) == {"block_recomputes"}
    assert status_of(database, accepted(database, from_bob_to_ada(bank, 1))) == "pending"
    assert settle_all(database) == 0
    assert resealing.propose(database, operator, anchors, "the leg is repaired")[0].id == 1


def test_nobody_changes_an_isolated_account(database: Database, bank: Bank, isolate: Act) -> None:
    pending = accepted(database, from_ada_to_bob(bank, 40))
    tamper(database, DAMAGES["a raised balance"])
    isolate()
    with unit_of_work(database) as connection:
        for change in (
            lambda: operators.unfreeze(connection, THE_BANK, bank.ada_account),
            lambda: operators.set_overdraft_limit(connection, THE_BANK, bank.ada_account, 5),
            lambda: cancelling.cancel(connection, user_id=bank.ada.id, transfer_id=pending.id),
        ):
            with pytest.raises(Refusal, match="isolated"):
                change()


def test_an_isolated_account_neither_pays_nor_receives_whatever_its_row_says(
    database: Database, bank: Bank, isolate: Act
) -> None:
    sent, received = accepted(database, from_ada_to_bob(bank, 40)), accepted(database, from_bob_to_ada(bank, 1))
    tamper(database, DAMAGES["a raised balance"])
    assert isolate().holds
    tamper(database, f"UPDATE accounts SET status = 'active', freeze_scope = NULL WHERE {ADA}")
    settle_all(database)
    found = rows(database, "SELECT failure_code FROM endings WHERE id IN (?, ?)", sent.sequence, received.sequence)
    assert [row["failure_code"] for row in found] == ["account_frozen", "payee_frozen"]


def test_an_isolation_is_never_deleted_and_ends_once(database: Database, bank: Bank, isolate: Act) -> None:
    tamper(database, DAMAGES["a raised balance"])
    isolate()
    tamper(database, "UPDATE isolations SET ended_at = 1")
    for statement in ("UPDATE isolations SET ended_at = NULL", "DELETE FROM isolations"):
        with pytest.raises(Exception, match="isolation"), unit_of_work(database) as connection:
            connection.exec_driver_sql(statement)
    assert not verification.verify(database).holds
