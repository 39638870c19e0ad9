"""Accounts in the database."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, bindparam, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from core.domain.accounts import AccountKind, AccountStatus, AccountView, AccountWithOwner, FreezeScope
from core.domain.ledger import LedgerAccount, PartyAccount
from core.storage.models import Account, User
from core.storage.rows import columns, halves, joined

_LEDGER_COLUMNS = (
    "a.id, a.kind, a.currency, a.status, a.freeze_scope, a.balance, a.reserved, a.overdraft_limit, "
    "a.last_transaction_id"
)


_COLUMNS = columns(Account, AccountView)
_ONE = select(*_COLUMNS).where(Account.public_id == bindparam("account"))
_ONE_OWNED = _ONE.where(Account.owner_id == bindparam("owner"))
_OWNED = (
    select(*_COLUMNS)
    .where(Account.owner_id == bindparam("owner"), Account.id > bindparam("after"))
    .order_by(Account.id)
    .offset(bindparam("offset"))
    .limit(bindparam("limit"))
)
_WITH_OWNERS = select(User.public_id, *_COLUMNS).outerjoin_from(Account, User, User.id == Account.owner_id)
_ONE_WITH_OWNER = _WITH_OWNERS.where(Account.public_id == bindparam("account"))
_ALL_WITH_OWNERS = (
    _WITH_OWNERS.where(Account.id > bindparam("after"))
    .order_by(Account.id)
    .offset(bindparam("offset"))
    .limit(bindparam("limit"))
)

_KINDS = {kind.value: kind for kind in AccountKind}
_STATUSES = {status.value: status for status in AccountStatus}


def find_parties(
    connection: Connection, public_ids: Iterable[bytes], numbers: Iterable[str]
) -> dict[bytes | str, PartyAccount]:
    """Read the accounts that a group of requests names; each is found under its id (16 bytes) and under its number."""
    parties: dict[bytes | str, PartyAccount] = {}
    for column, values in (("public_id", list(public_ids)), ("account_number", list(numbers))):
        for party in _parties(connection, f"a.{column} IN ({_marks(values)})", values):
            # An account named both ways is one party: what one request reserves, the next must see.
            known = parties.get(party.public_id_bytes, party)
            parties[known.public_id_bytes] = parties[known.account_number] = known
    return parties


def find_externals(connection: Connection, currencies: Sequence[str]) -> dict[str, PartyAccount]:
    """Read the external accounts of some currencies, by currency."""
    where = f"a.kind = 'external' AND a.currency IN ({_marks(currencies)})"
    return {party.ledger.currency: party for party in _parties(connection, where, currencies)}


def reserve(connection: Connection, changes: Sequence[tuple[int, int, int, int]]) -> None:
    """Reserve funds for accepted transfers, by payer.

    Each change is the sum in minor units, the number of transfers, the payer's newest one, and the payer's row id.
    """
    if changes:
        connection.exec_driver_sql(
            "UPDATE accounts SET reserved = reserved + ?, pending_count = pending_count + ?, last_transfer_id = ? "
            "WHERE id = ?",
            list(changes),
        )


def release(connection: Connection, account_id: int, amount: int) -> None:
    """Release the funds, in minor units, that were reserved for a transfer that will not be executed."""
    connection.exec_driver_sql(
        "UPDATE accounts SET reserved = reserved - ?, pending_count = pending_count - 1 WHERE id = ?",
        (amount, account_id),
    )


def read_for_settlement(connection: Connection, account_ids: Sequence[int]) -> Iterator[LedgerAccount]:
    """Read accounts by row id, and whether their owners are active."""
    rows = connection.exec_driver_sql(
        f"SELECT {_LEDGER_COLUMNS}, coalesce(u.is_active, 1), a.pending_count, a.leg_count, a.credits_high, "
        "a.credits_low FROM accounts a LEFT JOIN users u ON u.id = a.owner_id "
        f"WHERE a.id IN ({_marks(account_ids)})",
        tuple(account_ids),
    )
    for *row, owner_active, pending_count, leg_count, high, low in rows.all():
        account = _ledger_account(row)
        account.owner_active, account.pending_count = bool(owner_active), pending_count
        account.leg_count, account.credits = leg_count, joined(high, low)
        yield account


def write_settled(connection: Connection, accounts: Iterable[LedgerAccount]) -> None:
    """Write back accounts that a settlement changed. Values are absolute: they were read in the same unit of work."""
    if not (changed := list(accounts)):
        return
    connection.exec_driver_sql(
        "UPDATE accounts SET balance = ?, reserved = ?, last_transaction_id = ?, pending_count = ?, leg_count = ?, "
        "credits_high = ?, credits_low = ? WHERE id = ?",
        [
            (
                account.balance,
                account.reserved,
                account.last_transaction_id,
                account.pending_count,
                account.leg_count,
                *halves(account.credits),
                account.id,
            )
            for account in changed
        ],
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
            reserved=0,
            overdraft_limit=0,
            created_at=created_at,
        )
    )


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


def release_isolated(connection: Connection, accounts: Iterable[LedgerAccount]) -> None:
    """Write what isolated accounts reserve. A row that breaks its own CHECKs is left as it is: it needs a repair."""
    if not (changed := list(accounts)):
        return
    connection.exec_driver_sql(
        "UPDATE OR IGNORE accounts SET reserved = ?, pending_count = ? WHERE id = ?",
        [(account.reserved, account.pending_count, account.id) for account in changed],
    )


def statuses(connection: Connection, account_ids: Collection[int]) -> dict[int, tuple[str, str | None]]:
    """Read the status and the freeze scope of accounts, by row id. Unknown ones are left out."""
    query = f"SELECT id, status, freeze_scope FROM accounts WHERE id IN ({_marks(list(account_ids))})"
    return {row[0]: (row[1], row[2]) for row in connection.exec_driver_sql(query, tuple(account_ids))}


def freeze_all(connection: Connection, account_ids: Collection[int]) -> list[UUID]:
    """Freeze accounts that are not closed, and return the public ids of all. Settlement spares them in any case."""
    connection.exec_driver_sql(
        f"UPDATE OR IGNORE accounts SET status = 'frozen', freeze_scope = 'all' "
        f"WHERE status <> 'closed' AND id IN ({_marks(list(account_ids))})",
        tuple(account_ids),
    )
    query = f"SELECT public_id FROM accounts WHERE id IN ({_marks(list(account_ids))}) ORDER BY id"
    return [UUID(bytes=row[0]) for row in connection.exec_driver_sql(query, tuple(account_ids))]


def restore(connection: Connection, before: Mapping[int, tuple[str, str | None]]) -> None:
    """Give accounts that are not closed the status and the freeze scope that they had before."""
    for row_id, (status, scope) in before.items():
        query = "UPDATE accounts SET status = ?, freeze_scope = ? WHERE id = ? AND status <> 'closed'"
        connection.exec_driver_sql(query, (status, scope, row_id))


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


def last_opened_at(connection: Connection) -> int:
    """Return when the newest account was opened, in microseconds since the epoch; 0 without accounts."""
    row = connection.exec_driver_sql("SELECT created_at FROM accounts ORDER BY id DESC LIMIT 1").first()
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


def _parties(connection: Connection, where: str, values: Sequence[Any]) -> Iterator[PartyAccount]:
    if not values:
        return
    rows = connection.exec_driver_sql(
        f"SELECT {_LEDGER_COLUMNS}, a.public_id, a.account_number, a.owner_id, a.last_transfer_id "
        # nosemgrep: sql-from-constants - a condition of this module, with marks
        f"FROM accounts a WHERE {where}",
        tuple(values),
    )
    for *account, public_id, number, owner_id, last_transfer_id in rows.all():
        yield PartyAccount(_ledger_account(account), public_id, number, owner_id, last_transfer_id)


def _ledger_account(row: Sequence[Any]) -> LedgerAccount:
    """Make an account from `_LEDGER_COLUMNS`."""
    row_id, kind, currency, status, freeze_scope, balance, reserved, overdraft_limit, last_transaction_id = row
    return LedgerAccount(
        id=row_id,
        kind=_KINDS[kind],
        currency=currency,
        status=_STATUSES[status],
        freeze_scope=FreezeScope(freeze_scope) if freeze_scope else None,
        balance=balance,
        reserved=reserved,
        overdraft_limit=overdraft_limit,
        last_transaction_id=last_transaction_id,
    )


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))
