"""Lists of transfers. Each page reads about as many rows as it shows, wherever in the list it begins.

Executed transfers are found along the chains of legs. Failed and cancelled ones are rare, and indexed by their payer.
Pending ones are found along the chains of transfers, which are walked back to the oldest pending one at most.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import to_us
from core.domain.transfers import TransferStatus, TransferView
from core.ids import NEWEST
from core.storage.models import transactions
from core.storage.models.transfers import UNEXECUTED, WAYPOINT
from core.storage.rows import in_turns
from core.storage.transfers import COLUMNS, SIDES, view


def _first(table: str, column: str) -> str:
    """A binary search for the first row in which a column that grows with the id reaches `:value`."""
    # nosemgrep: sql-from-constants - only constants of this package, no values
    return f"""
        WITH RECURSIVE search (low, high) AS (
            SELECT 1, coalesce(max(id), 0) + 1 FROM {table}
            UNION ALL
            SELECT CASE WHEN {column} < :value THEN id + 1 ELSE low END,
                CASE WHEN {column} < :value THEN high ELSE (low + high) / 2 END
            FROM search CROSS JOIN {table} ON id = (SELECT min(id) FROM {table} WHERE id >= (low + high) / 2)
            WHERE low < high
        )
        SELECT max(low) FROM search
    """


_FIRST_TRANSFER = text(_first("transfers", "created_at"))
_FIRST_LEG = text(_first("transactions", "transfer_id"))


async def first_since(session: AsyncSession, moment: datetime) -> int:
    """Find the sequence of the first transfer accepted at a moment or later; without any, the next free one."""
    sequence: int = (await session.execute(_FIRST_TRANSFER, {"value": to_us(moment)})).scalar_one()
    return sequence


async def oldest_pending(session: AsyncSession) -> int:
    """Find the oldest pending transfer; a sequence beyond all others if nothing is pending."""
    oldest = (await session.execute(text("SELECT min(id) FROM transfers WHERE status = 'pending'"))).scalar()
    return NEWEST if oldest is None else oldest


# --- lists of a user ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scope:
    """The transfers that a user's list can contain."""

    owner_id: int
    account_id: int | None
    """Only this one of the user's accounts."""
    status: TransferStatus | None
    first: int
    """Sequences from this one on."""
    below: int
    """Sequences before this one."""

    def values(self) -> dict[str, Any]:
        """Name the bounds for a statement."""
        lowest, highest = (0, NEWEST) if self.account_id is None else (self.account_id, self.account_id)
        bounds = {"first": self.first, "below": self.below, "lowest": lowest, "highest": highest}
        return {"owner": self.owner_id, "status": self.status, **bounds}


@dataclass(frozen=True, slots=True)
class Step:
    """One transfer that a walk has found.

    A walk can find a transfer twice in a row: a transfer between two accounts of a user has two legs, and one that was
    cancelled while older ones are pending is in the chain of transfers and in the index.
    """

    leg: int | None
    """The leg by which it was found, if it was executed."""
    next_leg: int | None
    """The previous leg of the same account."""
    sequence: int
    row: Sequence[Any]

    def transfer(self) -> TransferView:
        """Make the view of the transfer. It is made on demand, because skipped transfers do not need one."""
        return view(self.row)


_ACCOUNTS = "accounts a WHERE a.owner_id = :owner AND a.id BETWEEN :lowest AND :highest"
_LEGS = text(
    # nosemgrep: sql-from-constants - only constants of this package, no values
    f"""
    WITH RECURSIVE chain (sequence, leg, account, previous) AS (
        SELECT l.transfer_id, l.id, l.account_id, l.previous_id
        FROM (SELECT id, last_transaction_id AS newest FROM {_ACCOUNTS}) mine
        CROSS JOIN transactions l ON l.id = coalesce(
            (SELECT id FROM transactions WHERE account_id = mine.id AND transfer_id >= :below
                AND {transactions.WAYPOINT} ORDER BY transfer_id LIMIT 1),
            mine.newest
        )
        UNION ALL
        SELECT l.transfer_id, l.id, l.account_id, l.previous_id
        FROM chain CROSS JOIN transactions l ON l.id = chain.previous
        WHERE chain.sequence >= :below AND l.id < chain.leg AND l.account_id = chain.account
    )
    SELECT leg FROM chain WHERE sequence < :below AND sequence >= :first
    """
)


async def newest_legs(session: AsyncSession, scope: Scope) -> list[int]:
    """Find the newest leg of each account within a scope: from the waypoint before it, along the account's chain."""
    return list((await session.execute(_LEGS, scope.values())).scalars())


# The ordered queue of a recursive query merges the sources: the newest transfer of all comes first. The rows are read
# in that order, and LIMIT stops the walk. An ORDER BY of the outer query would first let the walk run to its end.
_WALK = text(
    f"""
    WITH RECURSIVE mine (id, newest) AS MATERIALIZED (SELECT a.id, a.last_transfer_id FROM {_ACCOUNTS}),
    walk (sequence, source, link, account, previous) AS (
        SELECT l.transfer_id, 'leg', l.id, l.account_id, l.previous_id
        FROM json_each(:legs) start CROSS JOIN transactions l ON l.id = start.value
        CROSS JOIN accounts a ON a.id = l.account_id
        WHERE a.owner_id = :owner AND a.id BETWEEN :lowest AND :highest AND l.transfer_id >= :first
        UNION ALL
        SELECT t.id, 'sent', t.id, mine.id, t.previous_id
        FROM mine CROSS JOIN transfers t ON t.id = min(
            coalesce((SELECT min(id) FROM transfers WHERE from_account_id = mine.id AND id >= :below
                AND {WAYPOINT}), mine.newest),
            coalesce((SELECT min(id) FROM transfers WHERE from_account_id = mine.id AND id >= :below
                AND status = 'cancelled' AND ({UNEXECUTED})), mine.newest)
        )
        WHERE :below > :sent_from AND mine.newest >= :sent_from AND t.id >= :sent_from
        UNION ALL
        SELECT t.id, ending.value, t.id, mine.id, NULL
        FROM mine CROSS JOIN json_each(:endings) ending CROSS JOIN transfers t ON t.id = (
            SELECT max(id) FROM transfers WHERE from_account_id = mine.id AND status = ending.value
                AND id < :below AND ({UNEXECUTED})
        )
        WHERE t.id >= :first
        UNION ALL
        SELECT l.transfer_id, 'leg', l.id, l.account_id, l.previous_id
        FROM walk CROSS JOIN transactions l ON l.id = walk.previous
        WHERE walk.source = 'leg' AND l.id < walk.link AND l.account_id = walk.account AND l.transfer_id >= :first
        UNION ALL
        SELECT t.id, 'sent', t.id, t.from_account_id, t.previous_id
        FROM walk CROSS JOIN transfers t ON t.id = walk.previous
        WHERE walk.source = 'sent' AND t.id < walk.link AND t.from_account_id = walk.account AND t.id >= :sent_from
        UNION ALL
        SELECT t.id, walk.source, t.id, walk.account, NULL
        FROM walk CROSS JOIN transfers t ON t.id = (
            SELECT max(id) FROM transfers WHERE from_account_id = walk.account AND status = walk.source
                AND id < walk.link AND ({UNEXECUTED})
        )
        WHERE walk.source IN ('failed', 'cancelled') AND t.id >= :first
        ORDER BY 1 DESC
    )
    SELECT CASE walk.source WHEN 'leg' THEN walk.link END, CASE walk.source WHEN 'leg' THEN walk.previous END, {COLUMNS}
    FROM walk CROSS JOIN transfers t ON t.id = walk.sequence {SIDES}
    WHERE walk.sequence < :below AND (:status IS NULL OR t.status = :status)
    LIMIT :limit
    """
)


async def walk(
    session: AsyncSession, scope: Scope, *, legs: Collection[int], oldest_pending: int, limit: int
) -> list[Step]:
    """Read transfers of a scope, newest first, for `limit` steps at most.

    `legs` has the leg at which each account's chain begins. Without legs, no executed transfer is found.
    """
    is_wanted = {status for status in TransferStatus if scope.status in (None, status)}
    endings = is_wanted & {TransferStatus.FAILED, TransferStatus.CANCELLED}
    values = {
        "legs": json.dumps(list(legs)),
        "sent_from": max(scope.first, oldest_pending) if TransferStatus.PENDING in is_wanted else NEWEST,
        "endings": json.dumps(sorted(endings)),
        "limit": limit,
    }
    found = await session.execute(_WALK, scope.values() | values)
    return await in_turns(found, lambda row: Step(row[0], row[1], row[3], tuple(row)[2:]))


# --- lists of a batch, and of everybody --------------------------------------------------------------------------


def _page(ids: str) -> TextClause:
    """Select one page of the transfers whose ids a query returns, in its order."""
    return text(
        # nosemgrep: sql-from-constants - only constants of this package, no values
        f"SELECT {COLUMNS} FROM ({ids} DESC LIMIT :limit OFFSET :offset) page "
        f"CROSS JOIN transfers t ON t.id = page.sequence {SIDES} ORDER BY t.id DESC"
    )


_SPAN = _page(
    "SELECT id AS sequence FROM transfers WHERE id >= :first AND id < :below AND (:status IS NULL OR status = :status) "
    "AND (:account IS NULL OR :account IN (from_account_id, to_account_id)) ORDER BY id"
)

_UNEXECUTED = _page(
    f"SELECT id AS sequence FROM transfers WHERE status = :status AND id < :below AND ({UNEXECUTED}) ORDER BY id"
)
_LISTS = {
    None: _page("SELECT id AS sequence FROM transfers WHERE id < :below ORDER BY id"),
    TransferStatus.PENDING: _page(
        "SELECT id AS sequence FROM transfers WHERE status = 'pending' AND id < :below ORDER BY id"
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
    values = scope.values() | {"account": scope.account_id, "offset": offset, "limit": limit}
    return await in_turns(await session.execute(_SPAN, values), view)


async def list_all(
    session: AsyncSession, *, status: TransferStatus | None, below: int, offset: int, limit: int
) -> list[TransferView]:
    """Read transfers of all users with a sequence below `below`, newest first."""
    if status is TransferStatus.COMPLETED:
        below = (await session.execute(_FIRST_LEG, {"value": below})).scalar_one()
    values = {"status": status, "below": below, "offset": offset, "limit": limit}
    return await in_turns(await session.execute(_LISTS[status], values), view)
