"""`giro operator erase-user`: a person with money is paid out, closed and erased by one command."""

import json
from collections.abc import Iterator
from threading import Event, Thread
from typing import Any

import pytest

from core.cli.console import the_bank
from core.services.identity import pay_outs
from core.settings import Settings
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import (
    Bank,
    accepted,
    account_row,
    balance_of,
    deactivate,
    freeze,
    from_ada_to_bob,
    open_account,
    rows,
    set_account,
    settle_all,
    user_row,
)
from tests.unit.cli.test_cli import giro


@pytest.fixture
def worker(settings: Settings, database: Database) -> Iterator[None]:
    """A settlement worker beside the command."""
    stop = Event()

    def work() -> None:
        own = Database(settings)
        while not stop.wait(0.02):
            settle_all(own)
        own.close()

    thread = Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()


def erase(bank: Bank, *words: str) -> tuple[int, str]:
    result = giro("operator", "erase-user", bank.ada.email, *words)
    return result.exit_code, result.stdout + result.stderr


def actions(database: Database) -> list[str]:
    return [row["action"] for row in rows(database, "SELECT action FROM audit_entries ORDER BY id")]


def is_erased(database: Database, bank: Bank) -> bool:
    return user_row(database, bank.ada)["erased_at"] is not None


@pytest.mark.usefixtures("worker")
def test_money_is_withdrawn_and_every_step_is_recorded(database: Database, bank: Bank) -> None:
    before = len(actions(database))
    status, said = erase(bank, "--withdraw", "--yes")
    assert (status, "paid out 10.00 USD" in said, said.rstrip().endswith(": erased")) == (0, True, True), said
    assert (balance_of(database, bank.ada_account), account_row(database, bank.ada_account)["status"]) == (0, "closed")
    assert is_erased(database, bank)
    steps = ["withdrawal_ordered", "account_paid_out", "user_deactivated", "user_erased"]
    assert sorted(actions(database)[before:]) == sorted(steps)
    assert erase_by_id(bank) == "erased already"


def erase_by_id(bank: Bank) -> Any:
    result = giro("operator", "erase-user", str(bank.ada.public_id), "--json", "--yes")
    assert result.exit_code == 0
    return json.loads(result.stdout)["outcome"]


@pytest.mark.usefixtures("worker")
def test_money_is_paid_to_an_account_and_the_rest_withdrawn(database: Database, bank: Bank) -> None:
    with unit_of_work(database) as connection:
        open_account(connection, bank.ada, "EUR")
    result = giro("operator", "erase-user", bank.ada.email, "--pay-out-to", str(bank.bob_account), "--yes", "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["outcome"], len(told["accounts"]), len(told["transfers"])) == ("erased", 2, 1)
    assert told["accounts"][0]["pay_out_to"] == str(bank.bob_account)
    assert (balance_of(database, bank.bob_account), is_erased(database, bank)) == (1000, True)


@pytest.mark.usefixtures("worker")
def test_pending_transfers_are_waited_for_and_what_they_bring_is_paid_out_too(database: Database, bank: Bank) -> None:
    accepted(database, from_ada_to_bob(bank, 300))
    assert erase(bank, "--withdraw", "--yes")[0] == 0
    assert (balance_of(database, bank.bob_account), balance_of(database, bank.ada_account)) == (300, 0)
    assert is_erased(database, bank)


@pytest.mark.usefixtures("worker")
def test_a_deactivated_user_with_money_is_paid_out_too(database: Database, bank: Bank) -> None:
    deactivate(database, bank.ada)
    assert erase(bank, "--withdraw", "--yes")[0] == 0
    assert is_erased(database, bank)
    assert "user_reactivated" in actions(database)


def test_an_interrupted_erasure_is_continued_without_paying_twice(
    database: Database, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.cli.deposit.WAIT_SECONDS", 0)
    for _ in range(2):  # no settlement worker runs; the second run orders nothing
        monkeypatch.setattr("core.cli.erase_user.WAIT_SECONDS", 0)
        status, said = erase(bank, "--withdraw", "--yes")
        assert (status, "run this again" in said) == (1, True)
    assert [row["amount"] for row in rows(database, "SELECT amount FROM transfers WHERE kind = 'withdrawal'")] == [1000]
    assert not is_erased(database, bank)
    settle_all(database)
    assert erase(bank, "--withdraw", "--yes")[0] == 0
    assert is_erased(database, bank)


def test_reserved_money_is_not_paid_out_twice(database: Database, settings: Settings, bank: Bank) -> None:
    accepted(database, from_ada_to_bob(bank, 300))
    with unit_of_work(database) as connection:
        orders = pay_outs.pay_out(connection, the_bank(), bank.ada.public_id, {}, settings.pending_bounds)
    assert [order.amount for order in orders] == [700]
    settle_all(database)
    assert (balance_of(database, bank.ada_account), balance_of(database, bank.bob_account)) == (0, 300)


def test_a_dry_run_shows_everything_and_changes_nothing(database: Database, bank: Bank) -> None:
    before = rows(database, "SELECT * FROM accounts"), actions(database)
    status, said = erase(bank, "--withdraw", "--dry-run")
    assert status == 0
    for part in ("1 open account, 0 cards", "10.00 USD", "withdrawal", "nothing was changed", str(bank.ada_account)):
        assert part in said
    assert (rows(database, "SELECT * FROM accounts"), actions(database)) == before


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--yes"], 1, "there is money in USD: give --withdraw, or --pay-out-to ACCOUNT"),
        (["--withdraw"], 2, "confirm it with --yes"),
        (["--withdraw", "--json"], 2, "confirm it with --yes"),
    ],
)
def test_without_a_word_about_the_money_or_a_confirmation_nothing_is_changed(
    database: Database, bank: Bank, words: list[str], status: int, said: str
) -> None:
    found = erase(bank, *words)
    assert (found[0], said in found[1]) == (status, True), found
    assert (balance_of(database, bank.ada_account), user_row(database, bank.ada)["is_active"]) == (1000, 1)


def test_a_frozen_account_and_a_debt_need_a_person(database: Database, bank: Bank) -> None:
    freeze(database, bank.ada_account)
    status, said = erase(bank, "--withdraw", "--yes")
    assert (status, "is frozen: nothing was changed" in said) == (1, True)
    set_account(database, bank.ada_account, status="active", freeze_scope=None, overdraft_limit=5000, balance=-10)
    status, said = erase(bank, "--withdraw", "--yes")
    assert (status, "has a debt: nothing was changed" in said) == (1, True)


def test_the_users_own_account_is_no_destination(database: Database, bank: Bank) -> None:
    status, said = erase(bank, "--pay-out-to", str(bank.ada_account), "--yes")
    assert (status, "is not an account of another user" in said) == (2, True)
