"""Deposits and withdrawals by the bank itself."""

import time
from contextlib import suppress
from typing import Annotated
from uuid import UUID

import typer

from core.cli.console import DESCRIPTION, fail, is_description, one_line_errors, open_database, out, parse_account
from core.domain.errors import GiroError
from core.domain.lanes import Lane
from core.domain.money import MAX_AMOUNT, decimal_string
from core.domain.transfers import AcceptedTransfer, TransferKind, TransferRequest, TransferStatus, TransferView
from core.domain.users import SYSTEM_USER_ID
from core.ids import new_id
from core.queue.broker import connect, make_broker
from core.queue.wakeups import send_wakeup
from core.security.secrets import Secrets
from core.services.identity import operators
from core.services.transfers import accepting
from core.settings import load_settings
from core.storage import transfers as stored
from core.storage.engines import Engine
from core.storage.unit_of_work import unit_of_work

app = typer.Typer()

WAIT_SECONDS = 10

AccountName = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Account id or account number.")]
Amount = Annotated[int, typer.Argument(metavar="AMOUNT", min=1, max=MAX_AMOUNT, help="Minor units: 1050 is 10.50 USD.")]
Description = Annotated[str, typer.Option(metavar="TEXT", help="Description that the account's owner sees.")]


@app.command()
@one_line_errors
def deposit(account: AccountName, amount: Amount, description: Description = "Deposit") -> None:
    """Deposit money into an account, as the bank itself: for example for a first try."""
    order(TransferKind.DEPOSIT, account, amount, description)


@app.command()
@one_line_errors
def withdraw(account: AccountName, amount: Amount, description: Description = "Withdrawal") -> None:
    """Withdraw money from an account, as the bank itself."""
    order(TransferKind.WITHDRAWAL, account, amount, description)


def order(kind: TransferKind, name: str, amount: int, description: str) -> None:
    """Submit a deposit or a withdrawal, wait for its end, and print the result."""
    if not is_description(description):
        fail(f"--description: must be {DESCRIPTION}")
    settings = load_settings()
    account = parse_account(name)
    database = open_database(settings)
    with unit_of_work(database, Lane.ACCEPT) as connection:
        customers = operators.account_by_name(connection, account)
        request = request_of(kind, customers, amount, description)
        (accepted,) = accepting.accept(connection, [request], settings.pending_bounds)
    if isinstance(accepted, GiroError):
        raise accepted
    try:
        with suppress(Exception):  # if this fails, the sweep wakes the worker
            send_wakeup(make_broker(connect(Secrets(settings).queue_url())))
        end = wait_for_end(database, accepted.id)
    except KeyboardInterrupt:  # only the wait ends: the transfer stays accepted
        say_it_is_pending(accepted)
        raise typer.Exit(130) from None
    report(accepted, end)


def request_of(kind: TransferKind, customers: UUID, amount: int, description: str) -> TransferRequest:
    """Make an order of the bank itself. The other side is the external account."""
    return TransferRequest(
        kind=kind,
        submitted_by=SYSTEM_USER_ID,
        payer=customers if kind is TransferKind.WITHDRAWAL else None,
        payee=customers if kind is TransferKind.DEPOSIT else None,
        amount=amount,
        currency=None,
        description=description,
        idempotency_key=None,
        fingerprint=None,
        request_id=str(new_id()),
    )


def wait_for_end(database: Engine, transfer_id: UUID) -> TransferView:
    """Read a transfer until it has ended, for at most `WAIT_SECONDS`. Returns its last state."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        with database.reading() as connection:
            row = stored.read(connection, transfer_id)
        assert row is not None, "accepted above"
        if row.status is not TransferStatus.PENDING or time.monotonic() > deadline:
            return row
        time.sleep(0.05)


def report(transfer: AcceptedTransfer, end: TransferView) -> None:
    """Print the result of a deposit or a withdrawal."""
    if end.status is TransferStatus.PENDING:
        say_it_is_pending(transfer)
    elif end.status is TransferStatus.COMPLETED:
        verb = "deposited" if transfer.kind is TransferKind.DEPOSIT else "withdrew"
        out.print(f"{verb} {amount_of(transfer)} (transfer {transfer.id})")
    elif end.failure_told is None:
        fail(f"the {transfer.kind} of {amount_of(transfer)} is {end.status} (transfer {transfer.id})", status=1)
    else:
        reason = f"{end.failure_told.message} ({end.failure_told}; transfer {transfer.id})"
        fail(f"the {transfer.kind} of {amount_of(transfer)} {end.status}: {reason}", status=1)


def say_it_is_pending(transfer: AcceptedTransfer) -> None:
    """Print that a deposit or a withdrawal is accepted but not settled yet."""
    place = "there" if transfer.kind is TransferKind.DEPOSIT else "gone"
    out.print(
        f"{amount_of(transfer)} will be {place} when a settlement worker runs (transfer {transfer.id} is pending)"
    )


def amount_of(transfer: AcceptedTransfer) -> str:
    """Write the amount of a transfer, as in `10.50 USD`."""
    return f"{decimal_string(transfer.amount, transfer.currency)} {transfer.currency}"
