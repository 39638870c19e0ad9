"""The whole ledger, read row by row in its own order, for verification."""

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
from core.storage import blocks, transactions
from core.storage.rows import joined
from core.storage.scars import REPLACED
from core.storage.transfers import TERMS, next_sequence

_BLOCK = 1000
_ENDING = "status, settled_at, failure_code"

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


@dataclass(frozen=True, slots=True)
class TransferRow:
    """A stored transfer with its ending. Times are microseconds since the epoch."""

    terms: Terms
    status: str
    settled_at: int | None
    failure: str | None


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
    reserved: int
    overdraft_limit: int
    last_transaction_id: int | None
    last_transfer_id: int | None
    pending_count: int
    leg_count: int
    credits_high: int
    credits_low: int

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """All that is counted for it; they are integers if they are intact."""
        return self.pending_count, self.leg_count, self.credits_high, self.credits_low

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
    newest = next_sequence(connection)[0] - 1
    oldest = connection.exec_driver_sql("SELECT min(id) FROM transfers WHERE status = 'pending'").scalar()
    last_leg = transactions.next_id(connection) - 1
    return Extent(blocks.newest(connection), last_leg, newest if oldest is None else oldest - 1, newest)


def front(connection: Connection, height: int) -> tuple[int, set[int]]:
    """Return the last transfer settled up to a block, and the later ones that were cancelled up to that block."""
    query = (
        f"SELECT last_sequence FROM blocks WHERE height <= ? AND kind <> 'cancellation' AND NOT {REPLACED} "
        "ORDER BY height DESC LIMIT 1"
    )
    settled: int = connection.exec_driver_sql(query, (height,)).scalar() or 0
    query = (
        "SELECT first_sequence FROM blocks WHERE kind = 'cancellation' AND first_sequence > ? AND height <= ? "
        f"AND NOT {REPLACED}"
    )
    return settled, {row[0] for row in connection.exec_driver_sql(query, (settled, height))}


# --- row by row --------------------------------------------------------------------------------------------------


def legs(connection: Connection, *, after: int, through: int, limit: int) -> list[LegRow]:
    """Read legs in the order of posting."""
    query = (
        "SELECT id, transfer_id, account_id, amount, balance_after, posted_at, previous_id FROM transactions "
        "WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
    )
    return [tuple(row) for row in connection.exec_driver_sql(query, (after, through, limit))]


def batches(connection: Connection, *, after: int, through: int, limit: int) -> list[BatchRow]:
    """Read batches in the order of acceptance, each with totals of its transfers."""
    query = """
        SELECT b.id AS first, b.id + b.transfer_count - 1 AS last, b.mode = 'atomic' AS is_atomic, b.failed_index,
            count(t.id) AS transfers, count(DISTINCT t.submitted_by) AS submitters,
            count(DISTINCT t.created_at) AS times,
            count(*) FILTER (WHERE t.status = 'completed') AS completed,
            count(*) FILTER (WHERE t.failure_code = 'batch_failed') AS failed_with_it,
            min(t.id) FILTER (WHERE t.failure_code <> 'batch_failed') AS culprit,
            (SELECT n.id FROM batches n WHERE n.id > b.id ORDER BY n.id LIMIT 1) AS next_first
        FROM (SELECT * FROM batches WHERE id > ? AND id <= ? ORDER BY id LIMIT ?) b
        LEFT JOIN transfers t ON t.id BETWEEN b.id AND b.id + b.transfer_count - 1
        GROUP BY b.id ORDER BY b.id
    """
    return [_batch(row) for row in connection.exec_driver_sql(query, (after, through, limit))]


def leg(connection: Connection, leg_id: int) -> tuple[int, int] | None:
    """Read the account of a leg (its row id), and the balance after the leg."""
    query = "SELECT account_id, balance_after FROM transactions WHERE id = ?"
    row = connection.exec_driver_sql(query, (leg_id,)).first()
    return (row[0], row[1]) if row else None


def transfers(connection: Connection, *, after: int, through: int, limit: int) -> list[TransferRow]:
    """Read transfers in the order of acceptance."""
    query = f"SELECT {TERMS}, {_ENDING} FROM transfers WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
    return [_transfer(row) for row in connection.exec_driver_sql(query, (after, through, limit))]


def transfer(connection: Connection, sequence: int) -> TransferRow | None:
    """Read one transfer."""
    found = transfers(connection, after=sequence - 1, through=sequence, limit=1)
    return found[0] if found else None


def cancelled(connection: Connection, *, after: int) -> Iterator[TransferRow]:
    """Read the cancelled transfers behind a sequence, in the order of acceptance."""
    while found := transfers(connection, after=after, through=NEWEST, limit=_BLOCK):
        yield from (row for row in found if row.status == "cancelled")
        after = found[-1].terms.sequence


def payer(connection: Connection, sequence: int) -> int | None:
    """Return the row id of the account that a transfer pays from; None if there is no such transfer."""
    query = "SELECT from_account_id FROM transfers WHERE id = ?"
    return connection.exec_driver_sql(query, (sequence,)).scalar()


def account_facts(connection: Connection, *, after: int) -> list[tuple[int, str, str]]:
    """Read some accounts beyond a row id: row id, kind and currency of each."""
    query = f"SELECT id, kind, currency FROM accounts WHERE id > ? ORDER BY id LIMIT {_BLOCK}"
    return [(row[0], row[1], row[2]) for row in connection.exec_driver_sql(query, (after,))]


def account_numbers(connection: Connection) -> Iterator[tuple[int, str, str]]:
    """Read every account: row id, number and currency."""
    query = "SELECT id, account_number, currency FROM accounts ORDER BY id"
    rows = connection.execution_options(yield_per=_BLOCK).exec_driver_sql(query)
    return ((row[0], row[1], row[2]) for row in rows)


def accounts(connection: Connection) -> Iterator[AccountRow]:
    """Read every account."""
    rows = connection.execution_options(yield_per=_BLOCK).exec_driver_sql(
        "SELECT id, kind, currency, balance, reserved, overdraft_limit, last_transaction_id, last_transfer_id, "
        "pending_count, leg_count, credits_high, credits_low FROM accounts ORDER BY id"
    )
    return (AccountRow(*row) for row in rows)


def overdraft_limits(connection: Connection, account_id: int) -> OverdraftLimits:
    """Read an account's overdraft limit, and its changes from the audit log."""
    query = "SELECT overdraft_limit, public_id FROM accounts WHERE id = ?"
    now, public_id = connection.exec_driver_sql(query, (account_id,)).one()
    changes = connection.exec_driver_sql(
        "SELECT details ->> 'last_transaction', details ->> 'before' FROM audit_entries "
        "WHERE object_id = ? AND action = 'overdraft_limit_set' ORDER BY id DESC",
        (public_id,),
    )
    return OverdraftLimits(now, [(row[0], row[1]) for row in changes])


def statements(connection: Connection, *, below: tuple[int, int]) -> list[StatementRow]:
    """Read some final statements by account, each account's newest month first.

    `below` is the account and the run of the statement read last, or `FROM_THE_LAST` to begin.
    """
    rows = connection.exec_driver_sql(
        "SELECT s.id, s.account_id, s.run_id, s.number, r.starts_at, r.ends_at, a.last_transaction_id, "
        "s.opening_balance, s.closing_balance, s.total_credits, s.total_debits, s.transaction_count, "
        "s.opening_transaction_id, s.closing_transaction_id "
        "FROM statements s CROSS JOIN statement_runs r ON r.id = s.run_id CROSS JOIN accounts a ON a.id = s.account_id "
        "WHERE s.status = 'final' AND (s.account_id, s.run_id) < (?, ?) "
        f"ORDER BY s.account_id DESC, s.run_id DESC LIMIT {_BLOCK}",  # the order of the index, read backwards
        below,
    )
    return [_statement(row) for row in rows]


def runs(connection: Connection) -> list[tuple[str, int, int]]:
    """Read every closed month: the month, the statements that were counted for it, and those that exist."""
    query = (
        "SELECT r.period, r.statements, count(s.id) FROM statement_runs r "
        "LEFT JOIN statements s ON s.run_id = r.id AND s.status = 'final' GROUP BY r.id ORDER BY r.id"
    )
    return [(row[0], row[1], row[2]) for row in connection.exec_driver_sql(query)]


def _batch(row: Any) -> BatchRow:
    first, last, is_atomic, *rest = row
    return BatchRow(first, last, bool(is_atomic), *rest)


def _transfer(row: Any) -> TransferRow:
    *terms, status, settled_at, failure = row
    return TransferRow(Terms._make(terms), status, settled_at, failure)


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
