"""People, accounts and transfers for tests, made by the real services in a real file, so that tests read as sentences.

Amounts are minor units. Freezing, closing and deactivating write straight to the table: services would refuse some
states that tests need, and would add entries to the audit log.
"""

from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from core.clock import now_us
from core.domain.audit import Author
from core.domain.cards import CardType
from core.domain.errors import GiroError, RateLimited, Refusal
from core.domain.lanes import Lane
from core.domain.pending import PendingBounds
from core.domain.transfers import AcceptedTransfer, TransferKind, TransferRequest, TransferStatus, TransferView
from core.domain.users import SYSTEM_USER_ID, Role
from core.security.card_vault import CardVault
from core.services import accounts
from core.services.cards import issuing
from core.services.cards.issuing import IssuedCard
from core.services.identity import operators, users
from core.services.transfers import accepting, settlement
from core.storage import transfers as stored
from core.storage.engines import Engine
from core.storage.rows import HALF
from core.storage.unit_of_work import unit_of_work

_serial = count(1)

BOTH = tuple(Lane)
"""The lanes of what changes accounts and users."""

BOUNDS = PendingBounds(total=500_000, per_user=500_000, seconds=0)
"""Bounds of pending transfers that no test reaches by accident."""


@dataclass(frozen=True, slots=True)
class Person:
    """A user who has signed up."""

    id: int
    public_id: UUID
    email: str


@dataclass(frozen=True, slots=True)
class Bank:
    """Ada and Bob, with an account each in one currency, and the currency's external account."""

    ada: Person
    bob: Person
    ada_account: UUID
    bob_account: UUID


# --- people and accounts -----------------------------------------------------------------------------------------


def add_user(
    connection: Connection, email: str | None = None, role: Role = Role.CUSTOMER, password_hash: str = "no hash at all"
) -> Person:
    """Sign a user up; by default with a new address."""
    email = email or f"person-{next(_serial)}@example.com"
    public_id = users.sign_up(connection, email=email, name=None, password_hash=password_hash, role=role)
    query = "SELECT id FROM users WHERE public_id = ?"
    return Person(connection.exec_driver_sql(query, (public_id.bytes,)).scalar_one(), public_id, email.lower())


def open_account(connection: Connection, owner: Person | int, currency: str = "USD", most: int = 1000) -> UUID:
    """Open an account with a zero balance and return its public id."""
    owner_id = owner if isinstance(owner, int) else owner.id
    return accounts.open_account(connection, owner_id=owner_id, currency=currency, most=most)


def add_document(
    connection: Connection, owner: Person | int, account: UUID, document: UUID, *, month: str = "{}", **more: Any
) -> None:
    """Write a large document of an account, which is pending and expires in an hour."""
    row = {"period": "2026-01", "newest_id": 1, "media_type": "text/csv", "transaction_count": 1} | more
    row |= {
        "public_id": document.bytes,
        "owner_id": owner if isinstance(owner, int) else owner.id,
        "file_name": "statement.csv",
        "month": month,
    }
    row |= {"asked_at": now_us(), "expires_at": now_us() + 3_600_000_000}
    connection.exec_driver_sql(
        f"INSERT INTO documents (account_id, {', '.join(row)}) "
        f"SELECT id, {', '.join('?' * len(row))} FROM accounts WHERE public_id = ?",
        (*row.values(), account.bytes),
    )


def bank_of_two(database: Engine, *, ada_has: int = 0, bob_has: int = 0, currency: str = "USD") -> Bank:
    """Sign Ada and Bob up, open an account for each, and fund them."""
    with unit_of_work(database, *BOTH) as connection:
        ada, bob = add_user(connection), add_user(connection)
        bank = Bank(ada, bob, open_account(connection, ada, currency), open_account(connection, bob, currency))
    for account, amount in ((bank.ada_account, ada_has), (bank.bob_account, bob_has)):
        if amount:
            fund(database, account, amount)
    return bank


def set_account(database: Engine, account: UUID, **columns: Any) -> None:
    """Write columns of an account, without the checks of the services."""
    names = ", ".join(f"{name} = ?" for name in columns)
    with unit_of_work(database, *BOTH) as connection:
        connection.exec_driver_sql(
            f"UPDATE accounts SET {names} WHERE public_id = ?", (*columns.values(), account.bytes)
        )


def set_limit(database: Engine, account: UUID, amount: int) -> None:
    """Set an overdraft limit as the bank, like `giro operator limit`."""
    bank = Author(user_id=SYSTEM_USER_ID, request_id="a-request", address=None)
    with unit_of_work(database, *BOTH) as connection:
        operators.set_overdraft_limit(connection, bank, account, amount)


def freeze(database: Engine, account: UUID, scope: str = "all") -> None:
    """Freeze an account for `debit` or for `all`."""
    set_account(database, account, status="frozen", freeze_scope=scope)


def close(database: Engine, account: UUID) -> None:
    """Close an account with any balance."""
    set_account(database, account, status="closed", closed_at=1)


def deactivate(database: Engine, person: Person) -> None:
    """Take a user's access away."""
    with unit_of_work(database, *BOTH) as connection:
        connection.exec_driver_sql("UPDATE users SET is_active = 0 WHERE id = ?", (person.id,))


# --- transfers ---------------------------------------------------------------------------------------------------


def transfer_request(**overrides: Any) -> TransferRequest:
    """Make a request for a transfer of 100; pass at least `submitted_by`, `payer` and `payee`.

    With an idempotency key and no fingerprint, the fingerprint is a digest of accounts and amount.
    """
    values: dict[str, Any] = {
        "kind": TransferKind.TRANSFER,
        "submitted_by": SYSTEM_USER_ID,
        "payer": None,
        "payee": None,
        "amount": 100,
        "currency": None,
        "description": None,
        "idempotency_key": None,
        "fingerprint": None,
        "request_id": "a-request",
    } | overrides
    if values["idempotency_key"] is not None and values["fingerprint"] is None:
        what = f"{values['kind']} {values['payer']} {values['payee']} {values['amount']}"
        values["fingerprint"] = blake2b(what.encode(), digest_size=16).digest()
    return TransferRequest(**values)


def from_ada_to_bob(bank: Bank, amount: int = 100, **overrides: Any) -> TransferRequest:
    """Make Ada's request for a transfer from her account to Bob's."""
    return transfer_request(
        submitted_by=bank.ada.id, payer=bank.ada_account, payee=bank.bob_account, amount=amount, **overrides
    )


def from_bob_to_ada(bank: Bank, amount: int = 100, **overrides: Any) -> TransferRequest:
    """Make Bob's request for a transfer from his account to Ada's."""
    return transfer_request(
        submitted_by=bank.bob.id, payer=bank.bob_account, payee=bank.ada_account, amount=amount, **overrides
    )


def deposit_request(payee: UUID | str, amount: int = 100, **overrides: Any) -> TransferRequest:
    """Make the bank's request for a deposit."""
    return transfer_request(kind=TransferKind.DEPOSIT, payee=payee, amount=amount, **overrides)


def withdrawal_request(payer: UUID, amount: int = 100, **overrides: Any) -> TransferRequest:
    """Make the bank's request for a withdrawal."""
    return transfer_request(kind=TransferKind.WITHDRAWAL, payer=payer, amount=amount, **overrides)


def accept(database: Engine, *requests: TransferRequest) -> list[AcceptedTransfer | Refusal | RateLimited]:
    """Submit requests as one group, in one unit of work."""
    with unit_of_work(database, Lane.ACCEPT) as connection:
        return accepting.accept(connection, requests, BOUNDS)


def accepted(database: Engine, request: TransferRequest) -> AcceptedTransfer:
    """Submit one request that must be accepted."""
    (outcome,) = accept(database, request)
    if isinstance(outcome, GiroError):
        raise outcome
    return outcome


def settle_all(database: Engine, batch: int = 5000) -> int:
    """Settle pending transfers and return the number of those that ended."""
    return settlement.settle_pending(database, batch=batch, lock_ms=1000)


def fund(database: Engine, account: UUID, amount: int) -> AcceptedTransfer:
    """Deposit money into an account, and settle it."""
    deposit = accepted(database, deposit_request(account, amount))
    settle_all(database)
    return deposit


# --- cards -------------------------------------------------------------------------------------------------------


def move_on(database: Engine, revision: str = "9999") -> None:
    """Set the database to another migration, as another version of Giro would; outside any unit of work."""
    with database.writing(BOTH) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = ?", (revision,))
        connection.commit()


def author(user: Person | int) -> Author:
    """An author of audit entries, without an address."""
    return Author(user_id=user if isinstance(user, int) else user.id, request_id="a-request", address=None)


def issue_card(
    database: Engine,
    vault: CardVault,
    owner: Person,
    account: UUID,
    kind: CardType = CardType.DEBIT,
    most: int = 20,
    most_ever: int = 2000,
) -> IssuedCard:
    """Issue a card for a user's account, valid for four years."""
    with unit_of_work(database, Lane.ACCEPT) as connection:
        return issuing.issue(
            connection,
            vault,
            author(owner),
            account_id=account,
            kind=kind,
            most=most,
            most_ever=most_ever,
            years=4,
        )


# --- reading ---


def look_up(database: Engine, transfer: UUID | AcceptedTransfer) -> TransferView:
    """Read a transfer that exists."""
    public_id = transfer if isinstance(transfer, UUID) else transfer.id
    with database.reading() as connection:
        view = stored.read(connection, public_id)
    assert view is not None, "a transfer that exists"
    return view


def status_of(database: Engine, transfer: UUID | AcceptedTransfer) -> TransferStatus:
    """Read a transfer's status."""
    return look_up(database, transfer).status


WHOLE_TRANSFERS = """(
    SELECT t.*, coalesce(e.status, 'pending') AS status, e.ended_at AS settled_at, e.failure_code
    FROM transfers t LEFT JOIN endings e ON e.id = t.id
)"""
"""Every transfer with its ending, for queries of tests."""

WHOLE_ACCOUNTS = f"""(
    SELECT a.*, r.reserved_count - a.released_count AS pending_count, r.last_transfer_id,
        (r.reserved_high - a.released_high) * {HALF} + r.reserved_low - a.released_low AS reserved
    FROM accounts a LEFT JOIN reservations r ON r.account_id = a.id
)"""
"""Every account with what is reserved for its pending transfers, for queries of tests."""


def account_row(database: Engine, account: UUID) -> dict[str, Any]:
    """Read every column of an account, raw, and what is reserved now."""
    return rows(database, f"SELECT * FROM {WHOLE_ACCOUNTS} WHERE public_id = ?", account.bytes)[0]


def user_row(database: Engine, person: Person) -> dict[str, Any]:
    """Read every column of a user, raw."""
    return rows(database, "SELECT * FROM users WHERE id = ?", person.id)[0]


def balance_of(database: Engine, account: UUID) -> int:
    """Read an account's balance."""
    balance: int = account_row(database, account)["balance"]
    return balance


def reserved_of(database: Engine, account: UUID) -> int:
    """Read the funds that an account's pending transfers have reserved."""
    reserved: int = account_row(database, account)["reserved"]
    return reserved


def external_account(database: Engine, currency: str = "USD") -> dict[str, Any]:
    """Read every column of a currency's external account, raw, and what is reserved now."""
    return rows(database, f"SELECT * FROM {WHOLE_ACCOUNTS} WHERE kind = 'external' AND currency = ?", currency)[0]


def ledger(database: Engine) -> dict[str, list[dict[str, Any]]]:
    """Read every row of the ledger, by table, to compare it."""
    tables = ("accounts", "reservations", "transfers", "endings", "transactions", "blocks", "lanes")
    return {table: rows(database, f"SELECT * FROM {table}") for table in tables}


def rows(database: Engine, query: str, *parameters: Any) -> list[dict[str, Any]]:
    """Read rows of any query."""
    with database.reading() as connection:
        return [dict(row._mapping) for row in connection.exec_driver_sql(query, parameters)]
