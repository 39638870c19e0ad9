"""Opening, closing and reading accounts."""

import secrets
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import now_us, to_datetime
from core.domain.accounts import (
    NUMBER_DIGITS,
    TRANSITIONS,
    AccountError,
    AccountKind,
    AccountStatus,
    AccountView,
    account_number,
)
from core.domain.errors import Part, Refusal
from core.domain.transactions import TransactionView
from core.ids import new_id
from core.storage import accounts, cards, lanes, statement_runs, transactions, transfers


def open_account(connection: Connection, *, owner_id: int, currency: str, most: int) -> UUID:
    """Open an account for a user, and the external account of the currency if it does not exist yet.

    Returns the public id. Raises Refusal (`too_many_accounts`) if the user already has `most` accounts.
    """
    if accounts.count_owned(connection, owner_id) >= most:
        raise Refusal(AccountError.TOO_MANY)
    if not accounts.has_external(connection, currency):
        _add(connection, kind=AccountKind.EXTERNAL, owner_id=None, currency=currency)
    return _add(connection, kind=AccountKind.CUSTOMER, owner_id=owner_id, currency=currency)


def close_account(connection: Connection, *, user_id: int, account_id: UUID) -> None:
    """Close a user's account permanently and cancel its cards. Closing a closed account changes nothing.

    Raises Refusal: `account_not_found` for another user's account, `account_frozen`, `account_has_pending` while a
    transfer is pending from or to it, `account_not_empty` unless its balance is 0.
    """
    account = accounts.read_owned(connection, user_id, account_id)
    if account is None:
        raise Refusal(AccountError.NOT_FOUND, about=Part.ACCOUNT)
    if account.status is AccountStatus.CLOSED:
        return
    if AccountStatus.CLOSED not in TRANSITIONS[account.status]:
        raise Refusal(AccountError.FROZEN)
    if account.reserved or transfers.one_is_on_its_way_to(connection, account.id):
        raise Refusal(AccountError.HAS_PENDING)
    if account.balance != 0:
        raise Refusal(AccountError.NOT_EMPTY)
    now = to_datetime(_now(connection))
    accounts.close(connection, account.id, now)
    cards.cancel_all_of(connection, account.id, now)


async def get(session: AsyncSession, *, user_id: int, account_id: UUID) -> AccountView:
    """Read a user's account; raises Refusal (`account_not_found`) if it is missing or belongs to another user."""
    account = await accounts.get_owned(session, user_id, account_id)
    if account is None:
        raise Refusal(AccountError.NOT_FOUND, about=Part.ACCOUNT)
    return account


async def list_for_user(
    session: AsyncSession, *, user_id: int, after_id: int, offset: int, limit: int
) -> Sequence[AccountView]:
    """List a user's accounts, oldest first, starting after row id `after_id`."""
    return await accounts.list_owned(session, user_id, after_id=after_id, offset=offset, limit=limit)


async def list_transactions(
    session: AsyncSession, *, account: AccountView, start: int | None, offset: int, limit: int
) -> list[TransactionView]:
    """List an account's transactions, newest first, going back from row id `start` (None: from the newest)."""
    start = account.last_transaction_id if start is None else start
    return await transactions.read(session, account.id, start, offset=offset, limit=limit)


def _add(connection: Connection, *, kind: AccountKind, owner_id: int | None, currency: str) -> UUID:
    public_id = new_id()
    accounts.add(
        connection,
        public_id=public_id,
        owner_id=owner_id,
        account_number=_free_number(connection),
        kind=kind,
        currency=currency,
        created_at=to_datetime(_now(connection)),
    )
    return public_id


def _now(connection: Connection) -> int:
    """Read the clock, but return no time before the last leg, the last closed month or the last opened account.

    If an account were closed before its last leg, or opened after its first, some legs would be in no statement.
    """
    last_leg, closed = lanes.read(connection).posted_at, statement_runs.closed_until(connection)
    return max(now_us(), last_leg, closed, accounts.last_opened_at(connection))


def _free_number(connection: Connection) -> str:
    """Draw random account numbers until one is free. Random numbers do not reveal how many accounts there are."""
    while accounts.number_is_taken(connection, number := account_number(secrets.randbelow(10**NUMBER_DIGITS))):
        pass
    return number
