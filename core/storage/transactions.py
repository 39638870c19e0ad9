"""Transactions in the database: written by settlement, read along an account's chain."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import to_datetime
from core.domain.blocks import LegRow
from core.domain.transactions import TransactionView
from core.domain.transfers import TransferKind
from core.storage.rows import in_turns
from core.storage.sql import Insertion, Statement

_NEXT_ID = Statement("SELECT coalesce(max(id), 0) + 1 FROM transactions")


def next_id(connection: Connection) -> int:
    """Return the row id after the newest leg, as the rows say. Settling counts in its lane (core/storage/lanes.py)."""
    following: int = _NEXT_ID.run(connection).scalar()
    return following


_ADD = Insertion("transactions", "id, transfer_id, account_id, amount, balance_after, posted_at, previous_id")


def add(connection: Connection, legs: Sequence[LegRow]) -> None:
    """Write legs."""
    _ADD.run(connection, legs)


_CHAIN = text(
    """
    WITH RECURSIVE chain (id, previous_id, number) AS (
        SELECT id, previous_id, 1 FROM transactions WHERE id = :start AND account_id = :account
        UNION ALL
        SELECT t.id, t.previous_id, chain.number + 1 FROM chain CROSS JOIN transactions t
        WHERE t.id = chain.previous_id AND t.account_id = :account AND chain.number < :last
    )
    SELECT t.id, own.public_id AS account_id, transfers.public_id AS transfer_id, transfers.kind, t.amount,
        t.balance_after, other.public_id AS related_account_id, other.account_number AS related_account_number,
        transfers.description, transfers.currency, t.posted_at, t.previous_id
    FROM chain
    CROSS JOIN transactions t
    JOIN transfers ON transfers.id = t.transfer_id
    JOIN accounts own ON own.id = t.account_id
    JOIN accounts other ON other.id = transfers.from_account_id + transfers.to_account_id - t.account_id
    WHERE chain.number > :offset AND t.id = chain.id
    ORDER BY t.id DESC
    """
)


def walk(
    connection: Connection, account_id: int, start: int | None, *, offset: int, limit: int
) -> list[TransactionView]:
    """Read an account's legs, newest first, from leg `start` back along the chain.

    Each step also matches the account, so a start that belongs to another account reads nothing.
    """
    if start is None:
        return []
    parameters = {"start": start, "account": account_id, "offset": offset, "last": offset + limit}
    return [_view(row) for row in connection.execute(_CHAIN, parameters)]


async def read(
    session: AsyncSession, account_id: int, start: int | None, *, offset: int, limit: int
) -> list[TransactionView]:
    """Read what `walk` reads, on the event loop."""
    if start is None:
        return []
    parameters = {"start": start, "account": account_id, "offset": offset, "last": offset + limit}
    return await in_turns(await session.execute(_CHAIN, parameters), _view)


def _view(row: Any) -> TransactionView:
    return TransactionView(
        id=row.id,
        account_id=UUID(bytes=row.account_id),
        transfer_id=UUID(bytes=row.transfer_id),
        kind=TransferKind(row.kind),
        amount=row.amount,
        balance_after=row.balance_after,
        related_account_id=UUID(bytes=row.related_account_id),
        related_account_number=row.related_account_number,
        description=row.description,
        currency=row.currency,
        posted_at=to_datetime(row.posted_at),
        previous_id=row.previous_id,
    )
