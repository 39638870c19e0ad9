"""Accounts in the database."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, bindparam, func, insert, join, outerjoin, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from core.domain.accounts import AccountKind, AccountStatus, AccountView, AccountWithOwner, FreezeScope
from core.domain.ledger import LedgerAccount, PartyAccount
from core.storage.models import Account, Reservation, User
from core.storage.rows import HALF, columns, halves, joined
from core.storage.sql import Statement

_LEDGER_COLUMNS = (
    "a.id, a.kind, a.currency, a.status, a.freeze_scope, a.balance, a.overdraft_limit, a.last_transaction_id, "
    "a.released_high, a.released_low"
)

_RESERVED = (Reservation.reserved_high - Account.released_high) * HALF + Reservation.reserved_low - Account.released_low
_COLUMNS = columns(Account, AccountView, reserved=_RESERVED)
_JOINED = join(Account, Reservation, Reservation.account_id == Account.id)
_ONE = select(*_COLUMNS).select_from(_JOINED).where(Account.public_id == bindparam("account"))
_ONE_OWNED = _ONE.where(Account.owner_id == bindparam("owner"))
_OWNED = (
    select(*_COLUMNS)
    .select_from(_JOINED)
    .where(Account.owner_id == bindparam("owner"), Account.id > bindparam("after"))
    .order_by(Account.id)
    .offset(bindparam("offset"))
    .limit(bindparam("limit"))
)
_WITH_OWNERS = select(User.public_id, *_COLUMNS).select_from(outerjoin(_JOINED, User, User.id == Account.owner_id))
_ONE_WITH_OWNER = _WITH_OWNERS.where(Account.public_id == bindparam("account"))
_ALL_WITH_OWNERS = (
    _WITH_OWNERS.where(Account.id > bindparam("after"))
    .order_by(Account.id)
    .offset(bindparam("offset"))
    .limit(bindparam("limit"))
)

_KINDS = {kind.value: kind for kind in AccountKind}
_STATUSES = {status.value: status for status in AccountStatus}


_PARTY = f"""
    SELECT {_LEDGER_COLUMNS}, r.reserved_high, r.reserved_low, a.public_id, a.account_number, a.owner_id,
        r.reserved_count, r.last_transfer_id
    FROM accounts a JOIN reservations r ON r.account_id = a.id
"""
_PARTIES_BY_ID = Statement(f"{_PARTY} WHERE a.public_id IN (:wanted*)")
_PARTIES_BY_NUMBER = Statement(f"{_PARTY} WHERE a.account_number IN (:wanted*)")
_EXTERNALS = Statement(f"{_PARTY} WHERE a.kind = 'external' AND a.currency IN (:wanted*)")
_RESERVE = Statement(
    "UPDATE reservations SET reserved_count = :count, reserved_high = :high, reserved_low = :low, "
    "last_transfer_id = :last WHERE account_id = :id"
)
_RELEASE = Statement(
    "UPDATE accounts SET released_count = released_count + 1, "
    f"released_high = released_high + (released_low + :amount) / {HALF}, "
    f"released_low = (released_low + :amount) % {HALF} WHERE id = :id"
)
_FOR_SETTLEMENT = Statement(
    f"SELECT {_LEDGER_COLUMNS}, u.is_active, a.released_count, a.leg_count, a.credits_high, a.credits_low "
    "FROM accounts a LEFT JOIN users u ON u.id = a.owner_id WHERE a.id IN (:ids*)"
)
_SETTLED = Statement(
    "UPDATE accounts SET balance = :balance, last_transaction_id = :last, released_count = :released_count, "
    "released_high = :released_high, released_low = :released_low, leg_count = :leg_count, "
    "credits_high = :credits_high, credits_low = :credits_low WHERE id = :id"
)


def find_parties(
    connection: Connection, public_ids: Collection[bytes], numbers: Collection[str]
) -> dict[bytes | str, PartyAccount]:
    """Read the accounts that a group of requests names; each is found under its id (16 bytes) and under its number."""
    parties: dict[bytes | str, PartyAccount] = {}
    for statement, wanted in ((_PARTIES_BY_ID, public_ids), (_PARTIES_BY_NUMBER, numbers)):
        for party in _parties(connection, statement, wanted):
            # An account named both ways is one party: what one request reserves, the next must see.
            known = parties.get(party.public_id_bytes, party)
            parties[known.public_id_bytes] = parties[known.account_number] = known
    return parties


def find_externals(connection: Connection, currencies: Collection[str]) -> dict[str, PartyAccount]:
    """Read the external accounts of some currencies, by currency."""
    return {party.ledger.currency: party for party in _parties(connection, _EXTERNALS, currencies)}


def reserve(connection: Connection, payers: Collection[PartyAccount]) -> None:
    """Write what is reserved for the transfers of payers. Values are absolute: they were read in this unit of work."""
    if payers:
        _RESERVE.run_each(
            connection,
            [(each.reserved_count, *halves(each.reserved), each.last_transfer_id, each.ledger.id) for each in payers],
        )


def release(connection: Connection, account_id: int, amount: int) -> None:
    """Release the funds, in minor units, that were reserved for a transfer that will not be executed."""
    _RELEASE.run(connection, amount=amount, id=account_id)


def read_for_settlement(connection: Connection, account_ids: Collection[int]) -> Iterator[LedgerAccount]:
    """Read accounts by row id, and whether their owners are active."""
    if not account_ids:
        return
    for *row, owner_active, released_count, leg_count, high, low in _FOR_SETTLEMENT.run(connection, ids=account_ids):
        account = _ledger_account(row)
        account.owner_active, account.released_count = owner_active != 0, released_count
        account.leg_count, account.credits = leg_count, joined(high, low)
        yield account


def write_settled(connection: Connection, accounts: Iterable[LedgerAccount]) -> None:
    """Write back accounts that a settlement changed. Values are absolute: they were read in the same unit of work."""
    changed = [
        (
            account.balance,
            account.last_transaction_id,
            account.released_count,
            *halves(account.released),
            account.leg_count,
            *halves(account.credits),
            account.id,
        )
        for account in accounts
    ]
    if changed:
        _SETTLED.run_each(connection, changed)


_NOTHING_RESERVED = Statement(
    "INSERT INTO reservations (account_id, reserved_count, reserved_high, reserved_low) "
    "SELECT id, 0, 0, 0 FROM accounts WHERE public_id = :account"
)


def add(
    connection: Connection,
    *,
    public_id: UUID,
    owner_id: int | None,
    account_number: str,
    kind: AccountKind,
    currency: str,
    created_at: datetime,
) -> None:
    """Insert an empty account."""
    connection.execute(
        insert(Account).values(
            public_id=public_id,
            owner_id=owner_id,
            account_number=account_number,
            kind=kind,
            currency=currency,
            status=AccountStatus.ACTIVE,
            balance=0,
            overdraft_limit=0,
            created_at=created_at,
        )
    )
    _NOTHING_RESERVED.run(connection, account=public_id.bytes)


def read_owned(connection: Connection, owner_id: int, public_id: UUID) -> AccountView | None:
    """Read one account inside a unit of work, if it is this user's."""
    row = connection.execute(_ONE_OWNED, {"account": public_id, "owner": owner_id}).first()
    return AccountView(*row) if row else None


def read(connection: Connection, public_id: UUID) -> AccountView | None:
    """Read one account inside a unit of work, whatever its owner."""
    row = connection.execute(_ONE, {"account": public_id}).first()
    return AccountView(*row) if row else None


def open_ids_of(connection: Connection, owner_id: int) -> Sequence[UUID]:
    """List the public ids of a user's accounts that are not closed, oldest first."""
    query = select(Account.public_id).where(Account.owner_id == owner_id, Account.status != AccountStatus.CLOSED)
    return connection.execute(query.order_by(Account.id)).scalars().all()


def find_by_number(connection: Connection, number: str) -> UUID | None:
    """Find an account's public id by its number."""
    return connection.execute(select(Account.public_id).where(Account.account_number == number)).scalar_one_or_none()


_RELEASED = Statement(
    "UPDATE accounts SET released_count = :count, released_high = :high, released_low = :low WHERE id = :id"
)
_STATUSES_OF = Statement("SELECT id, status, freeze_scope FROM accounts WHERE id IN (:ids*)")
_FREEZE = Statement("UPDATE accounts SET status = 'frozen', freeze_scope = 'all' WHERE status <> 'closed' AND id = :id")
_PUBLIC_IDS = Statement("SELECT public_id FROM accounts WHERE id IN (:ids*) ORDER BY id")
_RESTORE = Statement(
    "UPDATE accounts SET status = :status, freeze_scope = :scope WHERE id = :id AND status <> 'closed'"
)


def release_isolated(connection: Connection, accounts: Iterable[LedgerAccount]) -> None:
    """Write what isolated accounts release. A row that breaks its own CHECKs is left as it is: it needs a repair."""
    for account in accounts:
        high, low = halves(account.released)
        with suppress(IntegrityError), connection.begin_nested():
            _RELEASED.run(connection, id=account.id, count=account.released_count, high=high, low=low)


def statuses(connection: Connection, account_ids: Collection[int]) -> dict[int, tuple[str, str | None]]:
    """Read the status and the freeze scope of accounts, by row id. Unknown ones are left out."""
    if not account_ids:
        return {}
    return {row[0]: (row[1], row[2]) for row in _STATUSES_OF.run(connection, ids=account_ids)}


def freeze_all(connection: Connection, account_ids: Collection[int]) -> list[UUID]:
    """Freeze accounts that are not closed, and return the public ids of all. Settlement spares them in any case.

    A row that breaks its own CHECKs is left as it is.
    """
    if not account_ids:
        return []
    for row_id in account_ids:
        with suppress(IntegrityError), connection.begin_nested():
            _FREEZE.run(connection, id=row_id)
    return [UUID(bytes=row[0]) for row in _PUBLIC_IDS.run(connection, ids=account_ids)]


def restore(connection: Connection, before: Mapping[int, tuple[str, str | None]]) -> None:
    """Give accounts that are not closed the status and the freeze scope that they had before."""
    for row_id, (status, scope) in before.items():
        _RESTORE.run(connection, id=row_id, status=status, scope=scope)


def set_status(connection: Connection, account_id: int, status: AccountStatus, scope: FreezeScope | None) -> None:
    """Freeze an account in a scope, or make it active."""
    connection.execute(update(Account).where(Account.id == account_id).values(status=status, freeze_scope=scope))


def set_overdraft_limit(connection: Connection, account_id: int, amount: int) -> None:
    """Set how far below 0 an account may go, in minor units."""
    connection.execute(update(Account).where(Account.id == account_id).values(overdraft_limit=amount))


def close(connection: Connection, account_id: int, closed_at: datetime) -> None:
    """Close an account permanently."""
    connection.execute(
        update(Account).where(Account.id == account_id).values(status=AccountStatus.CLOSED, closed_at=closed_at)
    )


_LAST_OPENED_AT = Statement("SELECT created_at FROM accounts ORDER BY id DESC LIMIT 1")


def last_opened_at(connection: Connection) -> int:
    """Return when the newest account was opened, in microseconds since the epoch; 0 without accounts."""
    row = _LAST_OPENED_AT.run(connection).first()
    return row[0] if row else 0


def count_owned(connection: Connection, owner_id: int) -> int:
    """Count a user's accounts."""
    return connection.execute(select(func.count()).where(Account.owner_id == owner_id)).scalar_one()


def number_is_taken(connection: Connection, number: str) -> bool:
    """Return whether an account has this number."""
    return connection.execute(select(Account.id).where(Account.account_number == number)).first() is not None


def has_external(connection: Connection, currency: str) -> bool:
    """Return whether a currency has its external account."""
    query = select(Account.id).where(Account.kind == AccountKind.EXTERNAL, Account.currency == currency)
    return connection.execute(query).first() is not None


async def get_owned(session: AsyncSession, owner_id: int, public_id: UUID) -> AccountView | None:
    """Read one account, if it is this user's."""
    row = (await session.execute(_ONE_OWNED, {"account": public_id, "owner": owner_id})).first()
    return AccountView(*row) if row else None


async def get(session: AsyncSession, public_id: UUID) -> AccountWithOwner | None:
    """Read one account, whatever its owner."""
    row = (await session.execute(_ONE_WITH_OWNER, {"account": public_id})).first()
    return _with_owner(*row) if row else None


async def list_all(session: AsyncSession, *, after_id: int, offset: int, limit: int) -> list[AccountWithOwner]:
    """Read accounts with their owners' public ids, oldest first, starting after row id `after_id`."""
    page = {"after": after_id, "offset": offset, "limit": limit}
    return [_with_owner(*row) for row in await session.execute(_ALL_WITH_OWNERS, page)]


async def list_owned(
    session: AsyncSession, owner_id: int, *, after_id: int, offset: int, limit: int
) -> list[AccountView]:
    """Read a user's accounts, oldest first, starting after row id `after_id`."""
    page = {"owner": owner_id, "after": after_id, "offset": offset, "limit": limit}
    return [AccountView(*row) for row in await session.execute(_OWNED, page)]


def _with_owner(owner_id: UUID | None, *account: Any) -> AccountWithOwner:
    return AccountWithOwner(AccountView(*account), owner_id)


def _parties(connection: Connection, statement: Statement, wanted: Collection[bytes | str]) -> Iterator[PartyAccount]:
    if not wanted:
        return
    for *row, high, low, public_id, number, owner_id, count, last_transfer_id in statement.run(
        connection, wanted=wanted
    ):
        account, reserved = _ledger_account(row), joined(high, low)
        account.reserved = reserved - account.released
        yield PartyAccount(account, public_id, number, owner_id, reserved, count, last_transfer_id)


def _ledger_account(row: Sequence[Any]) -> LedgerAccount:
    """Make an account from `_LEDGER_COLUMNS`."""
    row_id, kind, currency, status, freeze_scope, balance, overdraft_limit, last_transaction_id, high, low = row
    return LedgerAccount(
        id=row_id,
        kind=_KINDS[kind],
        currency=currency,
        status=_STATUSES[status],
        freeze_scope=FreezeScope(freeze_scope) if freeze_scope else None,
        balance=balance,
        overdraft_limit=overdraft_limit,
        last_transaction_id=last_transaction_id,
        released=joined(high, low),
    )
