"""The whole ledger, read row by row in its own order, for verification."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from core.clock import to_datetime
from core.domain.blocks import Block, LegRow
from core.domain.statements import Figures
from core.domain.transfers import Terms
from core.ids import NEWEST
from core.storage import blocks, lanes, transactions
from core.storage.lanes import Lanes
from core.storage.rows import joined
from core.storage.scars import REPLACED
from core.storage.sql import Statement
from core.storage.transfers import TERMS

_BLOCK = 1000
_NEWEST = Statement(
    "SELECT (SELECT coalesce(max(id), 0) FROM transfers), (SELECT coalesce(max(id), 0) FROM endings), "
    "coalesce((SELECT created_at FROM transfers ORDER BY id DESC LIMIT 1), 0), "
    "coalesce((SELECT posted_at FROM transactions ORDER BY id DESC LIMIT 1), 0)"
)
_COUNT_ENDINGS = Statement("SELECT count(*) FROM endings")

FROM_THE_LAST = (NEWEST, NEWEST)
"""The `below` with which `statements` begins."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How far the ledger reaches at one moment."""

    head: Block | None
    """None if the chain was removed."""
    last_leg: int
    front: int
    """Every transfer up to this sequence has ended."""
    newest: int
    """The newest transfer's sequence."""
    newest_ending: int
    """The newest transfer of which an ending is stored."""
    times: tuple[int, int]
    """When the newest transfer was accepted and the newest leg was posted, in µs; 0 before the first."""
    lanes: Lanes
    """What the lanes say about all of this."""


@dataclass(frozen=True, slots=True)
class TransferRow:
    """A stored transfer with its ending. Times are microseconds since the epoch."""

    terms: Terms
    status: str
    settled_at: int | None
    failure: str | None
    payer_id: int | None
    """The row id of the account that would have paid, if it failed or was cancelled."""


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A stored batch, with totals of its transfers."""

    first: int
    """Sequences of its first and last transfer."""
    last: int
    is_atomic: bool
    failed_index: int | None
    transfers: int
    submitters: int
    """Different users and times of acceptance among its transfers."""
    times: int
    completed: int
    failed_with_it: int
    """Transfers that failed because another one of the batch failed."""
    culprit: int | None
    """The first transfer that failed for its own reason."""
    next_first: int | None
    """Where the next batch begins."""


@dataclass(frozen=True, slots=True)
class AccountRow:
    """A stored account. Amounts are in minor units."""

    id: int
    kind: str
    currency: str
    balance: int
    overdraft_limit: int
    last_transaction_id: int | None
    last_transfer_id: int | None
    reserved_count: int
    reserved_high: int
    reserved_low: int
    released_count: int
    released_high: int
    released_low: int
    leg_count: int
    credits_high: int
    credits_low: int

    @property
    def counts(self) -> tuple[int, ...]:
        """All that is counted for it; they are integers if they are intact."""
        reserved = (self.reserved_count, self.reserved_high, self.reserved_low)
        released = (self.released_count, self.released_high, self.released_low)
        return (*reserved, *released, self.leg_count, self.credits_high, self.credits_low)

    @property
    def held(self) -> tuple[int, int]:
        """What is reserved and not released, in minor units, and the number of transfers that wait for it."""
        reserved = joined(self.reserved_high, self.reserved_low) - joined(self.released_high, self.released_low)
        return reserved, self.reserved_count - self.released_count

    @property
    def credits(self) -> int:
        """The sum of all its credits."""
        return joined(self.credits_high, self.credits_low)


@dataclass(frozen=True, slots=True)
class OverdraftLimits:
    """An account's overdraft limit and its history, in minor units."""

    now: int
    changes: list[tuple[int | None, int]]
    """Newest first: the account's last leg when it was changed (None: not recorded), and the limit before."""

    def at(self, leg_id: int) -> int:
        """Return the limit that applied to a leg."""
        limit = self.now
        for last_leg, before in self.changes:
            if last_leg is None:
                limit = max(limit, before)  # either may have applied
            elif leg_id > last_leg:
                break
            else:
                limit = before
        return limit


@dataclass(frozen=True, slots=True)
class StatementRow:
    """A final statement, its month's bounds, and its account's newest leg."""

    id: int
    account_id: int
    run_id: int
    number: int
    figures: Figures
    starts_at: datetime
    ends_at: datetime
    last_transaction_id: int | None


class Disordered(ValueError):
    """Rows that are not in the order of their ids: a page of the file was changed."""


def moved_on(after: int, last: int) -> int:
    """Return `last`, to continue after it; raises Disordered unless it is greater than `after`."""
    if last <= after:
        raise Disordered(f"row {last} comes after row {after}")
    return last


# --- how far it reaches ------------------------------------------------------------------------------------------


def extent(connection: Connection) -> Extent:
    """Read how far blocks, legs and transfers reach."""
    found = lanes.read(connection)
    newest, newest_ending, *times = _NEWEST.run(connection).one()
    head, last_leg = blocks.newest(connection), transactions.next_id(connection) - 1
    # The lane may be wrong, so the blocks say as well from where on a transfer can be pending.
    settled = _settled(connection, head.height) if head is not None else 0
    oldest = lanes.first_pending(connection, after=min(found.watermark, settled))
    front = newest if oldest is None else oldest - 1
    return Extent(head, last_leg, front, newest, newest_ending, (times[0], times[1]), found)


_SETTLED = Statement(
    f"SELECT last_sequence FROM blocks WHERE height <= :height AND kind <> 'cancellation' AND NOT {REPLACED} "
    "ORDER BY height DESC LIMIT 1"
)
_CANCELLED_BEHIND = Statement(
    "SELECT first_sequence FROM blocks WHERE kind = 'cancellation' AND first_sequence > :settled "
    f"AND height <= :height AND NOT {REPLACED}"
)


def front(connection: Connection, height: int) -> tuple[int, set[int]]:
    """Return the last transfer settled up to a block, and the later ones that were cancelled up to that block."""
    settled = _settled(connection, height)
    return settled, {row[0] for row in _CANCELLED_BEHIND.run(connection, settled=settled, height=height)}


def _settled(connection: Connection, height: int) -> int:
    """Return the last transfer settled up to a block."""
    return _SETTLED.run(connection, height=height).scalar() or 0


# --- row by row --------------------------------------------------------------------------------------------------


_LEGS = Statement(
    "SELECT id, transfer_id, account_id, amount, balance_after, posted_at, previous_id FROM transactions "
    "WHERE id > :after AND id <= :through ORDER BY id LIMIT :limit"
)
_LEG = Statement("SELECT account_id, balance_after FROM transactions WHERE id = :id")
# Each group is one batch, and min() reads its columns. With these columns in GROUP BY, SQLite would sort all transfers.
_BATCHES = Statement(
    """
    SELECT b.id AS first, b.id + min(b.transfer_count) - 1 AS last, min(b.mode) = 'atomic' AS is_atomic,
        min(b.failed_index) AS failed_index, count(t.id) AS transfers, count(DISTINCT t.submitted_by) AS submitters,
        count(DISTINCT t.created_at) AS times, count(*) FILTER (WHERE e.status = 'completed') AS completed,
        count(*) FILTER (WHERE e.failure_code = 'batch_failed') AS failed_with_it,
        min(t.id) FILTER (WHERE e.failure_code <> 'batch_failed') AS culprit,
        (SELECT n.id FROM batches n WHERE n.id > b.id ORDER BY n.id LIMIT 1) AS next_first
    FROM (SELECT * FROM batches WHERE id > :after AND id <= :through ORDER BY id LIMIT :limit) b
    LEFT JOIN transfers t ON t.id BETWEEN b.id AND b.id + b.transfer_count - 1
    LEFT JOIN endings e ON e.id = t.id
    GROUP BY b.id ORDER BY b.id
    """
)


def legs(connection: Connection, *, after: int, through: int, limit: int) -> list[LegRow]:
    """Read legs in the order of posting."""
    return [tuple(row) for row in _LEGS.run(connection, after=after, through=through, limit=limit)]


def batches(connection: Connection, *, after: int, through: int, limit: int) -> list[BatchRow]:
    """Read batches in the order of acceptance, each with totals of its transfers."""
    return [_batch(row) for row in _BATCHES.run(connection, after=after, through=through, limit=limit)]


def leg(connection: Connection, leg_id: int) -> tuple[int, int] | None:
    """Read the account of a leg (its row id), and the balance after the leg."""
    row = _LEG.run(connection, id=leg_id).first()
    return (row[0], row[1]) if row else None


_TERMS = ", ".join(f"t.{column}" for column in TERMS.split(", "))
_TRANSFERS = Statement(
    f"SELECT {_TERMS}, e.status, e.ended_at, e.failure_code, e.payer_id FROM transfers t "
    "LEFT JOIN endings e ON e.id = t.id WHERE t.id > :after AND t.id <= :through ORDER BY t.id LIMIT :limit"
)


def transfers(connection: Connection, *, after: int, through: int, limit: int) -> list[TransferRow]:
    """Read transfers in the order of acceptance."""
    return [_transfer(row) for row in _TRANSFERS.run(connection, after=after, through=through, limit=limit)]


def count_endings(connection: Connection) -> int:
    """Count all endings that are stored."""
    count: int = _COUNT_ENDINGS.run(connection).scalar()
    return count


def transfer(connection: Connection, sequence: int) -> TransferRow | None:
    """Read one transfer."""
    found = transfers(connection, after=sequence - 1, through=sequence, limit=1)
    return found[0] if found else None


def cancelled(connection: Connection, *, after: int) -> Iterator[TransferRow]:
    """Read the cancelled transfers behind a sequence, in the order of acceptance."""
    while found := transfers(connection, after=after, through=NEWEST, limit=_BLOCK):
        yield from (row for row in found if row.status == "cancelled")
        after = found[-1].terms.sequence


_PAYER = Statement("SELECT from_account_id FROM transfers WHERE id = :id")
_ACCOUNT_FACTS = Statement(f"SELECT id, kind, currency FROM accounts WHERE id > :after ORDER BY id LIMIT {_BLOCK}")
_ACCOUNT_NUMBERS = Statement("SELECT id, account_number, currency FROM accounts ORDER BY id")
_ACCOUNTS = Statement(
    "SELECT a.id, a.kind, a.currency, a.balance, a.overdraft_limit, a.last_transaction_id, r.last_transfer_id, "
    "r.reserved_count, r.reserved_high, r.reserved_low, a.released_count, a.released_high, a.released_low, "
    "a.leg_count, a.credits_high, a.credits_low "
    "FROM accounts a LEFT JOIN reservations r ON r.account_id = a.id ORDER BY a.id"
)
_OVERDRAFT_LIMIT = Statement("SELECT overdraft_limit, public_id FROM accounts WHERE id = :id")
_LIMIT_CHANGES = Statement(
    "SELECT details FROM audit_entries WHERE object_id = :account AND action = 'overdraft_limit_set' ORDER BY id DESC"
)
_STATEMENTS = Statement(
    "SELECT s.id, s.account_id, s.run_id, s.number, r.starts_at, r.ends_at, a.last_transaction_id, "
    "s.opening_balance, s.closing_balance, s.total_credits, s.total_debits, s.transaction_count, "
    "s.opening_transaction_id, s.closing_transaction_id "
    "FROM statements s CROSS JOIN statement_runs r CROSS JOIN accounts a "
    "WHERE r.id = s.run_id AND a.id = s.account_id AND s.status = 'final' "
    "AND (s.account_id, s.run_id) < (:account, :run) "
    f"ORDER BY s.account_id DESC, s.run_id DESC LIMIT {_BLOCK}"  # the order of the index, read backwards
)
_RUNS = Statement(
    "SELECT r.period, r.statements, count(s.id) FROM statement_runs r "
    "LEFT JOIN statements s ON s.run_id = r.id AND s.status = 'final' GROUP BY r.id ORDER BY r.id"
)


def payer(connection: Connection, sequence: int) -> int | None:
    """Return the row id of the account that a transfer pays from; None if there is no such transfer."""
    row_id: int | None = _PAYER.run(connection, id=sequence).scalar()
    return row_id


def account_facts(connection: Connection, *, after: int) -> list[tuple[int, str, str]]:
    """Read some accounts beyond a row id: row id, kind and currency of each."""
    return [(row[0], row[1], row[2]) for row in _ACCOUNT_FACTS.run(connection, after=after)]


def account_numbers(connection: Connection) -> Iterator[tuple[int, str, str]]:
    """Read every account: row id, number and currency."""
    return ((row[0], row[1], row[2]) for row in _ACCOUNT_NUMBERS.stream(connection, _BLOCK))


def accounts(connection: Connection) -> Iterator[AccountRow]:
    """Read every account."""
    return (AccountRow(*row) for row in _ACCOUNTS.stream(connection, _BLOCK))


def overdraft_limits(connection: Connection, account_id: int) -> OverdraftLimits:
    """Read an account's overdraft limit, and its changes from the audit log."""
    now, public_id = _OVERDRAFT_LIMIT.run(connection, id=account_id).one()
    changes = [dict(json.loads(row[0])) for row in _LIMIT_CHANGES.run(connection, account=public_id)]
    return OverdraftLimits(now, [(change.get("last_transaction"), change["before"]) for change in changes])


def statements(connection: Connection, *, below: tuple[int, int]) -> list[StatementRow]:
    """Read some final statements by account, each account's newest month first.

    `below` is the account and the run of the statement read last, or `FROM_THE_LAST` to begin.
    """
    account, run = below
    return [_statement(row) for row in _STATEMENTS.named(connection, account=account, run=run)]


def runs(connection: Connection) -> list[tuple[str, int, int]]:
    """Read every closed month: the month, the statements that were counted for it, and those that exist."""
    return [(row[0], row[1], row[2]) for row in _RUNS.run(connection)]


def _batch(row: Any) -> BatchRow:
    first, last, is_atomic, *rest = row
    return BatchRow(first, last, bool(is_atomic), *rest)


def _transfer(row: Any) -> TransferRow:
    *terms, status, settled_at, failure, payer_id = row
    return TransferRow(Terms._make(terms), status or "pending", settled_at, failure, payer_id)


def _statement(row: Any) -> StatementRow:
    figures = Figures(
        opening_balance=row.opening_balance,
        closing_balance=row.closing_balance,
        total_credits=int(row.total_credits),
        total_debits=int(row.total_debits),
        transaction_count=row.transaction_count,
        opening_transaction_id=row.opening_transaction_id,
        closing_transaction_id=row.closing_transaction_id,
    )
    return StatementRow(
        id=row.id,
        account_id=row.account_id,
        run_id=row.run_id,
        number=row.number,
        figures=figures,
        starts_at=to_datetime(row.starts_at),
        ends_at=to_datetime(row.ends_at),
        last_transaction_id=row.last_transaction_id,
    )
