"""The chains that a user's list of transfers is merged from, a few of each account.

Executed transfers are found along the legs, pending ones along the transfers from the account, and failed and cancelled
ones, which are rare, along an index by payer. A page reads a piece of each chain, all of them in one statement, and
then more of those chains only whose piece was too short.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Result, bindparam, text
from sqlalchemy.ext.asyncio import AsyncSession

from core import turns
from core.domain.transfers import TransferStatus
from core.ids import NEWEST
from core.storage.models import transactions, transfers
from core.storage.models.endings import UNEXECUTED
from core.storage.transfers import IS_PENDING


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
        return {"owner": self.owner_id, **bounds}


class _Chain(NamedTuple):
    """A kind of chain, of which each account has one, as the parts of a recursive query.

    A row of it is one link: the `sequence` of its transfer, the id of the `link` and of the `previous` one, the
    account, whether it is `found` (1) or only passed (0), and how many `more` may be found, this one included.
    """

    name: str
    newest: str
    """Selects the first link of each account within a scope."""
    older: str
    """Selects the link that follows each link."""
    these: str
    """Selects the links whose ids are `:links`."""

    def walk(self, start: str) -> str:
        """Return the common table of the links from the start on, until none `more` of the account may be found."""
        columns = "sequence, link, previous, account, found, more"
        # nosemgrep: sql-from-constants - only constants of this package, no values
        return f"{self.name} ({columns}) AS ({start} UNION ALL {self.older})"

    def found(self) -> str:
        """Select what was found, with the link at the end of each piece. The chain may go on there."""
        # nosemgrep: sql-from-constants - likewise
        columns = f"'{self.name}' AS chain, sequence, CASE WHEN more = 1 THEN link END AS link"
        # nosemgrep: sql-from-constants - likewise
        return f"SELECT {columns} FROM {self.name} WHERE found = 1"


_MINE = "a.owner_id = :owner AND a.id BETWEEN :lowest AND :highest"
_PIECE = (
    f"(SELECT CASE WHEN count(*) < 4 THEN :wanted ELSE 4 * :wanted / count(*) END + 1 FROM accounts a WHERE {_MINE})"
)
"""All that is wanted of each of few accounts, and of each of many four times its share: links cost less than rounds."""


def _chain(
    name: str,
    *,
    columns: tuple[str, str, str],
    table: str,
    lowest: str,
    found: str = "t.id < :below",
    mine: str,
    begin: str,
    older: str,
) -> _Chain:
    """Make a kind of chain of the links `t` in a table, whose columns are the sequence, the previous link, the account.

    `mine` selects accounts, each with its newest link. `begin` and `older` are the ids of the first link of an account
    and of the link after another one, `lowest` is the condition that a chain does not end before a link.
    """
    sequence, previous, account = columns
    links = f"t.{sequence}, t.id, t.{previous}, t.{account}, CASE WHEN {found} THEN 1 ELSE 0 END"
    # nosemgrep: sql-from-constants - only constants of this package, no values
    return _Chain(
        name,
        f"SELECT {links}, {_PIECE} FROM ({mine}) mine CROSS JOIN {table} t WHERE t.id = {begin} AND {lowest}",
        f"SELECT {links}, {name}.more - {name}.found FROM {name} CROSS JOIN {table} t "
        f"WHERE {name}.more > {name}.found AND t.id = {older} AND {lowest}",
        f"SELECT {links}, CAST(:piece AS bigint) FROM {table} t WHERE t.id IN :links",
    )


def _place(table: str, *, sequence: str, account: str, waypoint: str) -> str:
    """The link at which a walk enters a chain: the waypoint before the scope, or the newest link."""
    # nosemgrep: sql-from-constants - only constants of this package, no values
    return (
        f"coalesce((SELECT id FROM {table} WHERE {account} = mine.id AND {sequence} >= :below AND {waypoint} "
        f"ORDER BY {sequence} LIMIT 1), mine.newest)"
    )


_LEGS = _chain(
    "legs",
    columns=("transfer_id", "previous_id", "account_id"),
    table="transactions",
    lowest="t.transfer_id >= :first",
    found="t.transfer_id < :below",
    # nosemgrep: sql-from-constants - only constants of this package, no values
    mine=f"SELECT a.id, a.last_transaction_id AS newest FROM accounts a WHERE {_MINE}",
    begin=_place("transactions", sequence="transfer_id", account="account_id", waypoint=transactions.WAYPOINT),
    older="legs.previous AND t.id < legs.link AND t.account_id = legs.account",
)
WATERMARK = "(SELECT watermark FROM lanes WHERE name = 'settle')"
"""The newest sequence up to which no transfer is pending."""


def _sent(name: str, found: str) -> _Chain:
    """The chain of transfers from an account that has pending ones, back to the oldest pending one of all accounts."""
    return _chain(
        name,
        columns=("id", "previous_id", "from_account_id"),
        table="transfers",
        lowest=f"t.id >= :first AND t.id > {WATERMARK}",
        found=found,
        # nosemgrep: sql-from-constants - only constants of this package, no values
        mine="SELECT a.id, r.last_transfer_id AS newest FROM accounts a CROSS JOIN reservations r "
        f"WHERE {_MINE} AND r.account_id = a.id AND r.reserved_count > a.released_count AND :below > {WATERMARK}",
        begin=_place("transfers", sequence="id", account="from_account_id", waypoint=transfers.WAYPOINT),
        older=f"{name}.previous AND t.id < {name}.link AND t.from_account_id = {name}.account",
    )


def _unexecuted(status: TransferStatus) -> _Chain:
    """The transfers from an account that ended without being executed, along their index."""
    name = status.value
    # nosemgrep: sql-from-constants - only constants of this package, no values
    newest = f"SELECT max(id) FROM endings WHERE {UNEXECUTED} AND status = '{name}' AND payer_id"
    return _chain(
        name,
        columns=("id", "id", "payer_id"),
        table="endings",
        lowest="t.id >= :first",
        # nosemgrep: sql-from-constants - likewise
        mine=f"SELECT a.id FROM accounts a WHERE {_MINE}",
        begin=f"({newest} = mine.id AND id < :below)",
        older=f"({newest} = {name}.account AND id < {name}.link)",
    )


_FAILED, _CANCELLED = _unexecuted(TransferStatus.FAILED), _unexecuted(TransferStatus.CANCELLED)
_CHAINS = {
    # Without a filter, a transfer that was cancelled among pending ones may be found twice.
    None: (_LEGS, _sent("sent", "t.id < :below"), _FAILED, _CANCELLED),
    TransferStatus.PENDING: (_sent("pending", f"t.id < :below AND {IS_PENDING}"),),
    TransferStatus.COMPLETED: (_LEGS,),
    TransferStatus.FAILED: (_FAILED,),
    TransferStatus.CANCELLED: (_CANCELLED,),
}
_NEWEST = "ORDER BY sequence DESC LIMIT 2 * :wanted"
"""A transfer is found twice at most: by two legs, or as one of those sent and as a cancelled one."""
_BEGIN = {
    # nosemgrep: sql-from-constants - only constants of this package, no values
    status: text(
        f"WITH RECURSIVE {', '.join(chain.walk(chain.newest) for chain in chains)} "
        f"SELECT * FROM ({' UNION ALL '.join(chain.found() for chain in chains)}) parts {_NEWEST}"
    )
    for status, chains in _CHAINS.items()
}
_GO_ON = {
    # nosemgrep: sql-from-constants - only constants of this package, no values
    chain.name: text(f"WITH RECURSIVE {chain.walk(chain.these)} {chain.found()} {_NEWEST}").bindparams(
        bindparam("links", expanding=True)
    )
    for chains in _CHAINS.values()
    for chain in chains
}


class _End(NamedTuple):
    """The end of a piece, from which a chain may go on."""

    chain: str
    sequence: int
    link: int


async def newest(session: AsyncSession, scope: Scope, *, wanted: int) -> list[int]:
    """Find the newest transfers of a scope, `wanted` at most: their sequences, newest first."""
    found: dict[int, None] = {}
    """In their order: what is nearly sorted is sorted in one pass."""
    values = scope.values() | {"wanted": wanted}
    ends = await _note(await session.execute(_BEGIN[scope.status], values), found)
    piece = 1
    while True:
        merged = sorted(found, reverse=True)[:wanted]
        if len(merged) == wanted:
            ends = [end for end in ends if end.sequence > merged[-1]]
        if not ends:
            return merged
        piece = max(2 * piece, wanted // len(ends)) + 1  # each piece begins with the link at which the last one ends
        links: dict[str, list[int]] = {}
        for end in ends:
            links.setdefault(end.chain, []).append(end.link)
        ends = []
        for name, of_chain in links.items():
            more = await session.execute(_GO_ON[name], values | {"links": of_chain, "piece": piece})
            ends += await _note(more, found)


async def _note(rows: Result[*tuple[Any, ...]], found: dict[int, None]) -> list[_End]:
    """Add the sequences of links to those found, and return the ends of pieces."""
    ends: list[_End] = []
    for part in rows.partitions(turns.TOGETHER):
        for chain, sequence, link in part:
            found[sequence] = None
            if link is not None:
                ends.append(_End(chain, sequence, link))
        await turns.pause()
    return ends
