"""Running totals: how many legs an account has, and the sum of its credits, up to any moment.

They are stored with each account, as of now, and with each of its milestones. So the figures of a month take two walks
of less than `MILESTONE` steps, however many legs the account has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from core.clock import to_us
from core.domain.blocks import LegRow
from core.domain.ledger import Milestone
from core.domain.statements import Figures
from core.storage.rows import halves, joined
from core.storage.sql import Insertion, Statement

_FROM_THEN_ON = Statement(
    "SELECT transaction_id, leg_count, credits_high, credits_low FROM milestones "
    "WHERE account_id = :account AND posted_at >= :moment ORDER BY posted_at, transaction_id LIMIT 1"
)
_NOW = Statement("SELECT last_transaction_id, leg_count, credits_high, credits_low FROM accounts WHERE id = :account")
_LATER = Statement(
    """
    WITH RECURSIVE chain (id, amount, posted_at, previous_id) AS (
        SELECT id, amount, posted_at, previous_id FROM transactions WHERE id = :start AND account_id = :account
        UNION ALL
        SELECT t.id, t.amount, t.posted_at, t.previous_id FROM chain CROSS JOIN transactions t
        WHERE t.id = chain.previous_id AND t.account_id = :account AND chain.posted_at >= :moment AND t.id < chain.id
    )
    SELECT max(id) FILTER (WHERE posted_at < :moment), count(*) FILTER (WHERE posted_at >= :moment),
        CAST(coalesce(sum(amount) FILTER (WHERE amount > 0 AND posted_at >= :moment), 0) AS bigint)
    FROM chain
    """
)
"""The last leg before a moment, and the later ones up to a leg. Their sum fits in 64 bits: they are few."""


@dataclass(frozen=True, slots=True)
class _Totals:
    """The totals of an account up to a leg; amounts are minor units."""

    transaction_id: int | None
    leg_count: int
    credits: int


_ADD = Insertion("milestones", "account_id, transaction_id, posted_at, leg_count, credits_high, credits_low")


def add(connection: Connection, milestones: Sequence[Milestone]) -> None:
    """Write milestones."""
    _ADD.run(connection, [(*found[:4], *halves(found.credits)) for found in milestones])


def at_leg(connection: Connection, leg: LegRow) -> tuple[int, int] | None:
    """Read the milestone at a leg: the number of legs, and the sum of credits in minor units; None without one."""
    query = (
        "SELECT leg_count, credits_high, credits_low FROM milestones "
        "WHERE account_id = ? AND posted_at = ? AND transaction_id = ?"
    )
    row = connection.exec_driver_sql(query, (leg[2], leg[5], leg[0])).first()
    return (row[0], joined(row[1], row[2])) if row else None


def count(connection: Connection) -> int:
    """Count the milestones of all accounts."""
    number: int = connection.exec_driver_sql("SELECT count(*) FROM milestones").scalar_one()
    return number


def figures(connection: Connection, account_id: int, *, starts_at: datetime, ends_at: datetime) -> Figures:
    """Return the figures of an account's legs in a span of time, in a bounded number of steps.

    They are those of core/storage/statements.py, which adds the legs up. These always add up, so they prove nothing:
    the statements that are kept are made from the legs.
    """
    opening, closing = (_before(connection, account_id, to_us(moment)) for moment in (starts_at, ends_at))
    opening_balance, closing_balance = (_balance(connection, totals.transaction_id) for totals in (opening, closing))
    received = closing.credits - opening.credits
    return Figures(
        opening_balance=opening_balance,
        closing_balance=closing_balance,
        total_credits=received,
        total_debits=opening_balance + received - closing_balance,
        transaction_count=closing.leg_count - opening.leg_count,
        opening_transaction_id=opening.transaction_id,
        closing_transaction_id=closing.transaction_id,
    )


def _before(connection: Connection, account_id: int, moment: int) -> _Totals:
    """Return the totals of all legs that were posted before a moment, in microseconds since the epoch."""
    row = _FROM_THEN_ON.run(connection, account=account_id, moment=moment).first()
    start, leg_count, *sums = row or _NOW.run(connection, account=account_id).one()
    last, later, received = _LATER.run(connection, start=start, account=account_id, moment=moment).one()
    return _Totals(last, leg_count - later, joined(*sums) - received)


def _balance(connection: Connection, transaction_id: int | None) -> int:
    query = "SELECT balance_after FROM transactions WHERE id = ?"
    balance: int = connection.exec_driver_sql(query, (transaction_id,)).scalar() or 0
    return balance
