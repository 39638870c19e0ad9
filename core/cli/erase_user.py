"""`giro operator erase-user`: everything that erasing a person with money needs, in one command."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Annotated, Any
from uuid import UUID

import typer
from sqlalchemy import Connection

from core.cli.console import counted, fail, one_line_errors, open_database, out, parse_account, show, the_bank
from core.cli.deposit import WAIT_SECONDS, amount_of, wait_for_end
from core.cli.operator import UserName, parse_user
from core.domain.accounts import AccountView
from core.domain.lanes import Lane
from core.domain.money import decimal_string
from core.domain.transfers import AcceptedTransfer, TransferStatus
from core.queue.broker import connect, make_broker
from core.queue.wakeups import send_wakeup
from core.security.secrets import Secrets
from core.services.identity import erasures, operators, pay_outs
from core.services.identity.pay_outs import Holdings
from core.settings import Settings, load_settings
from core.storage import accounts
from core.storage.engines import Engine
from core.storage.unit_of_work import unit_of_work

app = typer.Typer()

ROUNDS = 5
"""How often money that comes in meanwhile is paid out as well."""


@app.command("erase-user")
@one_line_errors
def erase_user(
    user: UserName,
    *,
    pay_out_to: Annotated[
        list[str] | None,
        typer.Option("--pay-out-to", metavar="ACCOUNT", help="Where the money goes; once for each currency."),
    ] = None,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Withdraw all other money.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object. It needs --yes or --dry-run.")
    ] = False,
) -> None:
    """Pay out, close and erase a user, while the service runs. If it is interrupted, run it again to continue.

    It shows the user's accounts and cards, sends the money away, waits for pending transfers, deactivates the user, and
    erases the personal data permanently. Each step is in the audit log.
    """
    settings = load_settings()
    database = open_database(settings)
    with database.reading() as connection:
        user_id = operators.user_by_name(connection, parse_user(user))
        found = pay_outs.holdings(connection, user_id)
        payees = _payees(connection, found, pay_out_to or [])
    told = as_object(found, payees)
    if not as_json:
        show_plan(told)
    if found.user.erased_at is not None:
        _end(told, "erased already", as_json)
        return
    _require_possible(found, payees, withdraw=withdraw)
    if dry_run:
        _end(told, "nothing was changed", as_json)
        return
    if not yes:
        if as_json or not sys.stdin.isatty():
            fail("the erasure cannot be undone: confirm it with --yes")
        typer.confirm("Pay out, close and erase? This cannot be undone.", abort=True)
    paid = list(_empty(database, settings, user_id, payees))
    with unit_of_work(database, Lane.ACCEPT, Lane.SETTLE) as connection:
        operators.deactivate(connection, the_bank(), settings.exclusions_path, user_id)
    with unit_of_work(database, Lane.ACCEPT, Lane.SETTLE) as connection:
        erasures.erase(connection, the_bank(), settings.erasures_path, user_id, documents=settings.documents_path)
    if not as_json:
        for transfer in paid:
            out.print(f"paid out {amount_of(transfer)} (transfer {transfer.id})", soft_wrap=True)
    _end(told | {"transfers": [str(transfer.id) for transfer in paid]}, "erased", as_json)


def _end(told: dict[str, Any], outcome: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps(told | {"outcome": outcome}))
    else:
        out.print(f"{told['user']}: {outcome}", soft_wrap=True, markup=False)


def _payees(connection: Connection, found: Holdings, names: Sequence[str]) -> dict[str, UUID]:
    """Find the accounts that the money goes to, by their currencies."""
    payees: dict[str, UUID] = {}
    for name in names:
        payee = accounts.read(connection, operators.account_by_name(connection, parse_account(name)))
        if payee is None or payee.owner_id in (None, found.user.id):
            fail(f"--pay-out-to: {name} is not an account of another user")
        if payees.setdefault(payee.currency, payee.public_id) != payee.public_id:
            fail(f"--pay-out-to: two accounts in {payee.currency}")
    return payees


def _require_possible(found: Holdings, payees: dict[str, UUID], *, withdraw: bool) -> None:
    """Fail with one line if a person has to decide something first."""
    for account, why in found.obstacles:
        fail(f"account {account.public_id} {why}: nothing was changed", status=1)
    without = sorted({each.currency for each in found.to_pay_out if each.currency not in payees})
    if without and not withdraw:
        fail(
            f"there is money in {', '.join(without)}: give --withdraw, or --pay-out-to ACCOUNT; nothing was changed", 1
        )


def _empty(database: Engine, settings: Settings, user_id: UUID, payees: dict[str, UUID]) -> Iterator[AcceptedTransfer]:
    """Pay out until nothing is left and nothing is pending. Yields each transfer when it is completed."""
    for _ in range(ROUNDS):
        with unit_of_work(database, Lane.ACCEPT, Lane.SETTLE) as connection:
            orders = pay_outs.pay_out(connection, the_bank(), user_id, payees, settings.pending_bounds)
        with suppress(Exception):  # if this fails, the sweep wakes the worker
            send_wakeup(make_broker(connect(Secrets(settings).queue_url())))
        for order in orders:
            end = wait_for_end(database, order.id)
            if end.status is TransferStatus.PENDING:
                fail(f"transfer {order.id} is still pending: run this again when a settlement worker runs", status=1)
            if end.status is not TransferStatus.COMPLETED:
                fail(f"transfer {order.id} is {end.status} ({end.failure_told}): run this again", status=1)
            yield order
        with database.reading() as connection:
            left = pay_outs.holdings(connection, user_id)
        if not left.to_pay_out and not left.waiting:
            return
        if not orders and not _wait(database, user_id):
            break
    fail("transfers are still pending: run this again when they have ended", status=1)


def _wait(database: Engine, user_id: UUID) -> bool:
    """Wait for the transfers that the user's accounts have pending. Return whether they have ended."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        with database.reading() as connection:
            if not pay_outs.holdings(connection, user_id).waiting:
                return True
        time.sleep(0.05)
    return False


def as_object(found: Holdings, payees: dict[str, UUID]) -> dict[str, Any]:
    """Write what there is, and what would be done with it, for programs."""
    return {
        "user": str(found.user.public_id),
        "email": found.user.email,
        "cards": found.cards,
        "accounts": [_account(found, account, payees) for account in found.accounts],
    }


def _account(found: Holdings, account: AccountView, payees: dict[str, UUID]) -> dict[str, Any]:
    pays = account in found.to_pay_out
    return {
        "id": str(account.public_id),
        "currency": account.currency,
        "status": account.status.value,
        "balance": account.balance,
        "reserved": account.reserved,
        "pending": account in found.waiting,
        "pay_out_to": str(payees.get(account.currency, "withdrawal")) if pays else None,
    }


def show_plan(told: dict[str, Any]) -> None:
    """Print what there is, and what would be done."""
    out.print(f"{told['email']} has {counted(len(told['accounts']), 'open account')}, {counted(told['cards'], 'card')}")
    rows = [
        (
            each["id"],
            f"{decimal_string(each['balance'], each['currency'])} {each['currency']}",
            each["status"],
            "yes" if each["pending"] else "no",
            each["pay_out_to"],
        )
        for each in told["accounts"]
    ]
    if rows:
        show("account", "balance", "status", "pending", "pay out to", rows=rows, more=False)
