"""Lists of transfers. Each page reads about as many rows as it shows, wherever in the list it begins.

The transfers of a user's list are found along chains (core/storage/transfer_chains.py).
"""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import TextClause, bindparam, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import to_us
from core.domain.transfers import TransferStatus, TransferView
from core.storage.models.endings import UNEXECUTED
from core.storage.rows import in_turns
from core.storage.transfer_chains import WATERMARK, Scope
from core.storage.transfers import COLUMNS, IS_PENDING, SIDES, view


def _first(table: str, column: str) -> str:
    """A binary search for the first row in which a column that grows with the id reaches `:value`."""
    # nosemgrep: sql-from-constants - only constants of this package, no values
    return f"""
        WITH RECURSIVE search (low, high) AS (
            SELECT CAST(1 AS bigint), coalesce(max(id), 0) + 1 FROM {table}
            UNION ALL
            SELECT CASE WHEN {column} < :value THEN id + 1 ELSE low END,
                CASE WHEN {column} < :value THEN high ELSE (low + high) / 2 END
            FROM search CROSS JOIN {table}
            WHERE low < high AND id = (SELECT min(id) FROM {table} WHERE id >= (low + high) / 2)
        )
        SELECT max(low) FROM search
    """


_FIRST_TRANSFER = text(_first("transfers", "created_at"))
_FIRST_LEG = text(_first("transactions", "transfer_id"))


async def first_since(session: AsyncSession, moment: datetime) -> int:
    """Find the sequence of the first transfer accepted at a moment or later; without any, the next free one."""
    sequence: int = (await session.execute(_FIRST_TRANSFER, {"value": to_us(moment)})).scalar_one()
    return sequence


# nosemgrep: sql-from-constants - only constants of this package, no values
_THESE = text(f"SELECT {COLUMNS} FROM transfers t {SIDES} WHERE t.id IN :sequences ORDER BY t.id DESC").bindparams(
    bindparam("sequences", expanding=True)
)


async def read(session: AsyncSession, sequences: Collection[int]) -> list[TransferView]:
    """Read these transfers, newest first."""
    if not sequences:
        return []
    return await in_turns(await session.execute(_THESE, {"sequences": sequences}), view)


# --- lists of a batch, and of everybody --------------------------------------------------------------------------


def _page(ids: str) -> TextClause:
    """Select one page of the transfers whose ids a query returns, in its order."""
    return text(
        # nosemgrep: sql-from-constants - only constants of this package, no values
        f"SELECT {COLUMNS} FROM ({ids} DESC LIMIT :limit OFFSET :offset) page "
        f"CROSS JOIN transfers t {SIDES} WHERE t.id = page.sequence ORDER BY t.id DESC"
    )


_SPAN = _page(
    "SELECT t.id AS sequence FROM transfers t LEFT JOIN endings e ON e.id = t.id WHERE t.id >= :first "
    "AND t.id < :below AND coalesce(e.status, 'pending') IN :statuses AND (t.from_account_id BETWEEN :lowest AND "
    ":highest OR t.to_account_id BETWEEN :lowest AND :highest) ORDER BY t.id"
).bindparams(bindparam("statuses", expanding=True))

_UNEXECUTED = _page(
    f"SELECT id AS sequence FROM endings WHERE status = :status AND id < :below AND {UNEXECUTED} ORDER BY id"
)
_LISTS = {
    None: _page("SELECT id AS sequence FROM transfers WHERE id < :below ORDER BY id"),
    TransferStatus.PENDING: _page(
        f"SELECT id AS sequence FROM transfers t WHERE id > {WATERMARK} AND id < :below AND {IS_PENDING} ORDER BY id"
    ),
    # An executed transfer has one debit.
    TransferStatus.COMPLETED: _page(
        "SELECT transfer_id AS sequence FROM transactions WHERE id < :below AND amount < 0 ORDER BY id"
    ),
    TransferStatus.FAILED: _UNEXECUTED,
    TransferStatus.CANCELLED: _UNEXECUTED,
}


async def list_span(session: AsyncSession, scope: Scope, *, offset: int, limit: int) -> list[TransferView]:
    """Read the transfers between the bounds of a scope, of all users, newest first.

    Every transfer between the bounds is read, to check its status and its account.
    """
    statuses = [scope.status or status for status in TransferStatus]
    values = scope.values() | {"statuses": statuses, "offset": offset, "limit": limit}
    return await in_turns(await session.execute(_SPAN, values), view)


async def list_all(
    session: AsyncSession, *, status: TransferStatus | None, below: int, offset: int, limit: int
) -> list[TransferView]:
    """Read transfers of all users with a sequence below `below`, newest first."""
    if status is TransferStatus.COMPLETED:
        below = (await session.execute(_FIRST_LEG, {"value": below})).scalar_one()
    values = {"status": status, "below": below, "offset": offset, "limit": limit}
    return await in_turns(await session.execute(_LISTS[status], values), view)
