"""Transfers in the database."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import to_datetime
from core.domain.blocks import Ending
from core.domain.errors import ErrorCode
from core.domain.transfers import AcceptedTransfer, Terms, TransferKind, TransferStatus, TransferView
from core.storage.rows import insert

KeyScope = tuple[str, int]
"""An idempotency key and the row id of the user whose key it is."""

TERMS = (
    "id, public_id, kind, from_account_id, to_account_id, amount, currency, description, submitted_by, request_id, "
    "idempotency_key, fingerprint, answer_version, previous_id, created_at"
)
"""The columns of `Terms`, in its order."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """The transfers that wait for settlement."""

    pending: int
    oldest_created_at: int | None
    """Microseconds since the epoch; None if no transfer waits."""
    last_settled: int
    """Every transfer up to this sequence has ended."""


# --- accepting ---------------------------------------------------------------------------------------------------


def next_sequence(connection: Connection) -> tuple[int, int]:
    """Return the sequence of the next transfer, and when the newest was created (microseconds since the epoch)."""
    row = connection.exec_driver_sql("SELECT id, created_at FROM transfers ORDER BY id DESC LIMIT 1").first()
    return (row[0] + 1, row[1]) if row else (1, 0)


def find_by_keys(connection: Connection, keys: Sequence[KeyScope]) -> dict[KeyScope, tuple[AcceptedTransfer, bytes]]:
    """Read the keys that were used: the transfer each was accepted with, and the fingerprint of its request."""
    if not keys:
        return {}
    rows = connection.exec_driver_sql(
        "SELECT t.idempotency_key, t.submitted_by, t.fingerprint, t.public_id, t.id, t.kind, payer.public_id, "
        "payee.public_id, t.amount, t.currency, t.description, t.created_at, t.answer_version, t.request_id "
        f"FROM (VALUES {','.join(['(?, ?)'] * len(keys))}) wanted "
        "CROSS JOIN transfers t ON t.idempotency_key = wanted.column1 AND t.submitted_by = wanted.column2 "
        "JOIN accounts payer ON payer.id = t.from_account_id JOIN accounts payee ON payee.id = t.to_account_id",
        tuple(part for key in keys for part in key),
    )
    return {(key, user_id): (_accepted(accepted), digest) for key, user_id, digest, *accepted in rows}


def add(connection: Connection, transfers: Sequence[Terms]) -> None:
    """Insert pending transfers."""
    insert(connection, f"transfers ({TERMS}, status)", [(*terms, "pending") for terms in transfers])


# --- settling ----------------------------------------------------------------------------------------------------


def read_pending(connection: Connection, *, after: int, limit: int) -> list[Terms]:
    """Read pending transfers in the order of acceptance, starting after the sequence `after`."""
    rows = connection.exec_driver_sql(
        f"SELECT {TERMS} FROM transfers WHERE status = 'pending' AND id > ? ORDER BY id LIMIT ?", (after, limit)
    )
    return [Terms._make(row) for row in rows.all()]


def end(connection: Connection, endings: Sequence[Ending]) -> int:
    """End pending transfers, and count those that changed.

    The count is the fence behind all locks. If it is short, another process has ended some of them, and the caller
    must roll back.
    """
    return connection.exec_driver_sql(
        "UPDATE transfers SET status = ?, settled_at = ?, failure_code = ? WHERE id = ? AND status = 'pending'",
        [(status, ended_at, failure, terms[0]) for terms, status, ended_at, failure in endings],
    ).rowcount


def complete(connection: Connection, *, first: int, last: int, settled_at: int) -> int:
    """Complete the transfers that are still pending from one sequence to another, and count them (time in µs).

    This is one statement: one for each transfer would take as long as posting the legs.
    """
    return connection.exec_driver_sql(
        "UPDATE transfers SET status = 'completed', settled_at = ? WHERE id BETWEEN ? AND ? AND status = 'pending'",
        (settled_at, first, last),
    ).rowcount


def one_is_on_its_way_to(connection: Connection, account_id: int) -> bool:
    """Return whether a pending transfer pays into an account. Reads pending transfers only."""
    query = "SELECT 1 FROM transfers WHERE status = 'pending' AND to_account_id = ? LIMIT 1"
    return connection.exec_driver_sql(query, (account_id,)).first() is not None


def terms_of(connection: Connection, sequence: int) -> Terms:
    """Read the terms of one transfer."""
    return Terms(*connection.exec_driver_sql(f"SELECT {TERMS} FROM transfers WHERE id = ?", (sequence,)).one())


def backlog(connection: Connection) -> Backlog:
    """Count the transfers that wait for settlement, and find out since when."""
    count = connection.exec_driver_sql("SELECT count(*) FROM transfers WHERE status = 'pending'").scalar_one()
    oldest = connection.exec_driver_sql(
        "SELECT id, created_at FROM transfers WHERE status = 'pending' ORDER BY id LIMIT 1"
    ).first()
    if oldest:
        return Backlog(count, oldest[1], oldest[0] - 1)
    last: int = connection.exec_driver_sql("SELECT coalesce(max(id), 0) FROM transfers").scalar_one()
    return Backlog(count, None, last)


# --- reading -----------------------------------------------------------------------------------------------------

COLUMNS = """
    t.public_id, t.id, t.kind, t.status, payer.public_id, payee.public_id, t.amount, t.currency, t.description,
    t.created_at, t.settled_at, t.failure_code, t.submitted_by, payer.owner_id, payee.owner_id,
    CASE WHEN t.failure_code = 'batch_failed' THEN
        (SELECT b.failed_index FROM batches b WHERE b.id <= t.id ORDER BY b.id DESC LIMIT 1)
    END
"""
"""The columns that `view` reads."""
SIDES = "JOIN accounts payer ON payer.id = t.from_account_id JOIN accounts payee ON payee.id = t.to_account_id"
"""The joins that `COLUMNS` needs, next to `transfers t`."""
_BY_ID = f"SELECT {COLUMNS} FROM transfers t {SIDES} WHERE t.public_id = :id"


async def get(session: AsyncSession, public_id: UUID) -> TransferView | None:
    """Read one transfer of any user."""
    row = (await session.execute(text(_BY_ID), {"id": public_id.bytes})).first()
    return view(row) if row else None


async def get_by_key(session: AsyncSession, key: str, user_id: int) -> TransferView | None:
    """Read the transfer that a user's idempotency key was accepted with."""
    query = f"SELECT {COLUMNS} FROM transfers t {SIDES} WHERE t.idempotency_key = :key AND t.submitted_by = :user"
    row = (await session.execute(text(query), {"key": key, "user": user_id})).first()
    return view(row) if row else None


def read(connection: Connection, public_id: UUID) -> TransferView | None:
    """Read one transfer inside a unit of work."""
    row = connection.execute(text(_BY_ID), {"id": public_id.bytes}).first()
    return view(row) if row else None


def view(row: Sequence[Any]) -> TransferView:
    """Make a transfer from a row of `COLUMNS`."""
    public_id, sequence, kind, status, payer, payee, amount, currency, description, *rest = row
    created_at, settled_at, failure, submitted_by, payer_owner, payee_owner, failed_index = rest
    return TransferView(
        id=UUID(bytes=public_id),
        sequence=sequence,
        kind=TransferKind(kind),
        status=TransferStatus(status),
        from_account_id=UUID(bytes=payer),
        to_account_id=UUID(bytes=payee),
        amount=amount,
        currency=currency,
        description=description,
        created_at=to_datetime(created_at),
        settled_at=None if settled_at is None else to_datetime(settled_at),
        failure_code=None if failure is None else ErrorCode.of(failure),
        submitted_by=submitted_by,
        payer_owner_id=payer_owner,
        payee_owner_id=payee_owner,
        failed_index=failed_index,
    )


def _accepted(row: Sequence[Any]) -> AcceptedTransfer:
    """Make a replay of a transfer from the columns of `find_by_keys`, from its public id on."""
    public_id, sequence, kind, payer, payee, amount, currency, description, created_at, version, request_id = row
    return AcceptedTransfer(
        id=UUID(bytes=public_id),
        sequence=sequence,
        kind=TransferKind(kind),
        from_account_id=UUID(bytes=payer),
        to_account_id=UUID(bytes=payee),
        amount=amount,
        currency=currency,
        description=description,
        created_at=to_datetime(created_at),
        answer_version=version,
        request_id=request_id,
        replayed=True,
    )
