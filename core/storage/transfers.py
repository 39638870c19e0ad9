"""Transfers in the database."""

import asyncio
import json
from collections.abc import Iterable, Sequence
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

READ_TOGETHER = 250
"""Rows that are made into views in one go: for some milliseconds, in which nobody else has a turn."""

TERMS = (
    "id, public_id, kind, from_account_id, to_account_id, amount, currency, description, submitted_by, request_id, "
    "idempotency_key, fingerprint, answer_version, previous_id, created_at"
)
"""The columns of `Terms`, in its order."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits to be settled."""

    pending: int
    oldest_created_at: int | None
    """Microseconds since the epoch; None when nothing waits."""
    last_settled: int
    """Every transfer up to this sequence has ended."""


# --- accepting ---------------------------------------------------------------------------------------------------


def next_sequence(connection: Connection) -> tuple[int, int]:
    """The sequence that the next transfer gets, and when the newest was created (microseconds since the epoch)."""
    row = connection.exec_driver_sql("SELECT id, created_at FROM transfers ORDER BY id DESC LIMIT 1").first()
    return (row[0] + 1, row[1]) if row else (1, 0)


def backlog_bound(connection: Connection) -> int:
    """At most so many transfers are pending: those from the oldest pending one to the newest. Reads two rows."""
    oldest = connection.exec_driver_sql("SELECT min(id) FROM transfers WHERE status = 'pending'").scalar()
    return 0 if oldest is None else next_sequence(connection)[0] - int(oldest)


def find_by_keys(connection: Connection, keys: Sequence[KeyScope]) -> dict[KeyScope, tuple[AcceptedTransfer, bytes]]:
    """Read which keys have been used: the transfer each was accepted with, and the fingerprint of its request."""
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
    return {(row[0], row[1]): (_accepted(tuple(row)[3:]), row[2]) for row in rows}


def add(connection: Connection, transfers: Sequence[Terms]) -> None:
    """Insert pending transfers."""
    insert(connection, f"transfers ({TERMS}, status)", [(*terms, "pending") for terms in transfers])


# --- settling ----------------------------------------------------------------------------------------------------


def read_pending(connection: Connection, *, after: int, limit: int) -> list[Terms]:
    """Read what waits to be settled, in the order of acceptance, from the sequence after `after` on."""
    rows = connection.exec_driver_sql(
        f"SELECT {TERMS} FROM transfers WHERE status = 'pending' AND id > ? ORDER BY id LIMIT ?", (after, limit)
    )
    return [Terms._make(row) for row in rows.all()]


def end(connection: Connection, endings: Sequence[Ending]) -> int:
    """End pending transfers, and count those that changed.

    The count is the fence behind all locks: whoever finds it short must roll back, since somebody else was there.
    """
    return connection.exec_driver_sql(
        "UPDATE transfers SET status = ?, settled_at = ?, failure_code = ? WHERE id = ? AND status = 'pending'",
        [(status, ended_at, failure, terms[0]) for terms, status, ended_at, failure in endings],
    ).rowcount


def complete(connection: Connection, *, first: int, last: int, settled_at: int) -> int:
    """End as completed what is still pending from one sequence to another (time in µs); count those that changed.

    One statement for all of them: one for each would take as long again as posting the legs.
    """
    return connection.exec_driver_sql(
        "UPDATE transfers SET status = 'completed', settled_at = ? WHERE id BETWEEN ? AND ? AND status = 'pending'",
        (settled_at, first, last),
    ).rowcount


def one_is_on_its_way_to(connection: Connection, account_id: int) -> bool:
    """Say whether a pending transfer pays into an account. Looks through what is pending, and through nothing else."""
    query = "SELECT 1 FROM transfers WHERE status = 'pending' AND to_account_id = ? LIMIT 1"
    return connection.exec_driver_sql(query, (account_id,)).first() is not None


def terms_of(connection: Connection, sequence: int) -> Terms:
    """Read the terms of one transfer."""
    return Terms(*connection.exec_driver_sql(f"SELECT {TERMS} FROM transfers WHERE id = ?", (sequence,)).one())


def backlog(connection: Connection) -> Backlog:
    """Count what waits to be settled, and find since when."""
    count = connection.exec_driver_sql("SELECT count(*) FROM transfers WHERE status = 'pending'").scalar_one()
    oldest = connection.exec_driver_sql(
        "SELECT id, created_at FROM transfers WHERE status = 'pending' ORDER BY id LIMIT 1"
    ).first()
    if oldest:
        return Backlog(count, oldest[1], oldest[0] - 1)
    last: int = connection.exec_driver_sql("SELECT coalesce(max(id), 0) FROM transfers").scalar_one()
    return Backlog(count, None, last)


# --- reading -----------------------------------------------------------------------------------------------------

_COLUMNS = """
    t.public_id, t.id, t.kind, t.status, payer.public_id, payee.public_id, t.amount, t.currency, t.description,
    t.created_at, t.settled_at, t.failure_code, t.submitted_by, payer.owner_id, payee.owner_id,
    CASE WHEN t.failure_code = 'batch_failed' THEN
        (SELECT b.failed_index FROM batches b WHERE b.id <= t.id ORDER BY b.id DESC LIMIT 1)
    END
"""
_TABLES = """
    transfers t JOIN accounts payer ON payer.id = t.from_account_id JOIN accounts payee ON payee.id = t.to_account_id
"""
_BY_ID = f"SELECT {_COLUMNS} FROM {_TABLES} WHERE t.public_id = :id"


async def get(session: AsyncSession, public_id: UUID) -> TransferView | None:
    """Read one transfer, whoever's it is."""
    row = (await session.execute(text(_BY_ID), {"id": public_id.bytes})).first()
    return _transfer(tuple(row)) if row else None


async def get_by_key(session: AsyncSession, key: str, user_id: int) -> TransferView | None:
    """Read the transfer that a user's idempotency key was accepted with."""
    query = f"SELECT {_COLUMNS} FROM {_TABLES} WHERE t.idempotency_key = :key AND t.submitted_by = :user"
    row = (await session.execute(text(query), {"key": key, "user": user_id})).first()
    return _transfer(tuple(row)) if row else None


async def newest(session: AsyncSession) -> int:
    """The sequence of the newest transfer; 0 before the first."""
    sequence: int = (await session.execute(text("SELECT coalesce(max(id), 0) FROM transfers"))).scalar_one()
    return sequence


async def list_all(
    session: AsyncSession, *, status: TransferStatus | None, start: int, below: int, offset: int, limit: int
) -> list[TransferView]:
    """Read transfers of everybody with a sequence from `start` on and below `below`, newest first."""
    only = "" if status is None else "AND t.status = :status"
    # nosemgrep: sql-from-constants - one of the two texts above
    query = f"""
        SELECT {_COLUMNS} FROM {_TABLES} WHERE t.id >= :start AND t.id < :below {only}
        ORDER BY t.id DESC LIMIT :limit OFFSET :offset
    """
    values = {"start": start, "below": below, "status": status, "limit": limit, "offset": offset}
    found: list[TransferView] = []
    for rows in (await session.execute(text(query), values)).partitions(READ_TOGETHER):
        found += [_transfer(tuple(row)) for row in rows]
        await asyncio.sleep(0)  # a batch has thousands, and making them takes long
    return found


def read(connection: Connection, public_id: UUID) -> TransferView | None:
    """Read one transfer inside a unit of work."""
    row = connection.execute(text(_BY_ID), {"id": public_id.bytes}).first()
    return _transfer(tuple(row)) if row else None


Link = tuple[int, int | None]
"""Where a walk stands in one chain: a transfer's sequence, and the leg that led to it (None among transfers)."""


@dataclass(frozen=True, slots=True)
class Step:
    """One transfer met on a walk, and the next link of the chain it was met in."""

    link: Link
    transfer: TransferView
    is_debit_leg: bool
    """A debit's transfer is met in its payer's chain of transfers as well; the leg is then passed over."""
    next: Link | None


# The queue of a recursive query, ordered, is a merge: the newest link of all chains comes out first, and LIMIT
# stops the walk. So a page over many accounts reads about as many rows as it shows.
_WALK = text(
    f"""
    WITH RECURSIVE walk (sequence, leg_id, amount, next_sequence, next_leg_id) AS (
        SELECT link.value ->> 0, link.value ->> 1, l.amount,
            CASE WHEN l.id IS NULL THEN t.previous_id ELSE p.transfer_id END, p.id
        FROM json_each(:links) link
        CROSS JOIN transfers t ON t.id = link.value ->> 0
        LEFT JOIN transactions l ON l.id = link.value ->> 1
        LEFT JOIN transactions p ON p.id = l.previous_id
        UNION ALL
        SELECT t.id, l.id, l.amount, CASE WHEN l.id IS NULL THEN t.previous_id ELSE p.transfer_id END, p.id
        FROM walk
        CROSS JOIN transfers t ON t.id = walk.next_sequence
        LEFT JOIN transactions l ON l.id = walk.next_leg_id
        LEFT JOIN transactions p ON p.id = l.previous_id
        ORDER BY 1 DESC, 2
        LIMIT :limit
    )
    SELECT walk.sequence, walk.leg_id, walk.amount < 0, walk.next_sequence, walk.next_leg_id, {_COLUMNS}
    FROM walk CROSS JOIN {_TABLES.replace("transfers t JOIN", "transfers t ON t.id = walk.sequence JOIN")}
    ORDER BY walk.sequence DESC, walk.leg_id
    """
)


async def newest_links(session: AsyncSession, owner_id: int, account_id: int | None) -> list[Link]:
    """Where the chains of a user's accounts begin (or of one of them): sent transfers, and legs for received ones."""
    query = text(
        "SELECT a.last_transfer_id, a.last_transaction_id, l.transfer_id FROM accounts a "
        "LEFT JOIN transactions l ON l.id = a.last_transaction_id "
        "WHERE a.owner_id = :owner AND (:account IS NULL OR a.id = :account)"
    )
    rows = (await session.execute(query, {"owner": owner_id, "account": account_id})).all()
    sent: list[Link] = [(row[0], None) for row in rows if row[0] is not None]
    received: list[Link] = [(row[2], row[1]) for row in rows if row[2] is not None]
    return sent + received


async def walk(session: AsyncSession, links: Iterable[Link], *, limit: int) -> list[Step]:
    """Walk chains back together, newest transfer first, for `limit` steps at most."""
    rows = (await session.execute(_WALK, {"links": json.dumps(list(links)), "limit": limit})).all()
    return [
        Step(
            link=(row[0], row[1]),
            transfer=_transfer(tuple(row)[5:]),
            is_debit_leg=bool(row[2]),
            next=None if row[3] is None else (row[3], row[4]),
        )
        for row in rows
    ]


def _transfer(row: Sequence[Any]) -> TransferView:
    return TransferView(
        id=UUID(bytes=row[0]),
        sequence=row[1],
        kind=TransferKind(row[2]),
        status=TransferStatus(row[3]),
        from_account_id=UUID(bytes=row[4]),
        to_account_id=UUID(bytes=row[5]),
        amount=row[6],
        currency=row[7],
        description=row[8],
        created_at=to_datetime(row[9]),
        settled_at=None if row[10] is None else to_datetime(row[10]),
        failure_code=None if row[11] is None else ErrorCode(row[11]),
        submitted_by=row[12],
        payer_owner_id=row[13],
        payee_owner_id=row[14],
        failed_index=row[15],
    )


def _accepted(row: Sequence[Any]) -> AcceptedTransfer:
    return AcceptedTransfer(
        id=UUID(bytes=row[0]),
        sequence=row[1],
        kind=TransferKind(row[2]),
        from_account_id=UUID(bytes=row[3]),
        to_account_id=UUID(bytes=row[4]),
        amount=row[5],
        currency=row[6],
        description=row[7],
        created_at=to_datetime(row[8]),
        answer_version=row[9],
        request_id=row[10],
        replayed=True,
    )
