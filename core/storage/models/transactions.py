"""Transactions: the legs of executed transfers. They are written once and never changed."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, text
from sqlalchemy.orm import Mapped, mapped_column

from core.storage.models.base import Base, Moment, trigger

WAYPOINT = "((posted_at + transfer_id) & 65535) * 40503 & 65535 < 1024"
"""One leg in 64. A list that does not begin at the newest leg starts its walk along the chain at one of these.

Multiplying by 65536 / 1.618 scatters numbers that follow each other evenly over 65536 (Knuth, The Art of Computer
Programming, volume 3, section 6.4: Fibonacci hashing). The formula includes the microsecond of posting, which no client
can predict, so no client can keep the legs of its account from being waypoints.
"""


class Transaction(Base):
    """One leg. `amount` is negative for a debit. `previous_id` is the previous leg of the same account."""

    __tablename__ = "transactions"
    __table_args__ = (
        CheckConstraint("amount <> 0", name="amount"),
        Index("ix_transactions_waypoints", "account_id", "transfer_id", sqlite_where=text(WAYPOINT)),
        {"sqlite_strict": True},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    transfer_id: Mapped[int] = mapped_column(ForeignKey("transfers.id"))
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    amount: Mapped[int] = mapped_column(Integer)
    balance_after: Mapped[int] = mapped_column(Integer)
    posted_at: Mapped[datetime] = mapped_column(Moment)
    previous_id: Mapped[int | None] = mapped_column(Integer)


class Milestone(Base):
    """The running totals of an account up to one leg, for every 128th leg of the account.

    The totals up to any moment are those of the first milestone from then on (of the account itself, if none follows)
    without the legs in between: at most 127 steps along the chain.
    """

    __tablename__ = "milestones"
    __table_args__ = ({"sqlite_strict": True, "sqlite_with_rowid": False},)

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    posted_at: Mapped[datetime] = mapped_column(Moment, primary_key=True)
    transaction_id: Mapped[int] = mapped_column(ForeignKey("transactions.id"), primary_key=True)
    leg_count: Mapped[int] = mapped_column(Integer)
    credits_high: Mapped[int] = mapped_column(Integer)
    credits_low: Mapped[int] = mapped_column(Integer)


trigger(
    Milestone.__table__,
    """CREATE TRIGGER milestones_never_change BEFORE UPDATE ON milestones
    BEGIN SELECT RAISE(ABORT, 'a milestone never changes'); END""",
)
trigger(
    Milestone.__table__,
    """CREATE TRIGGER milestones_stay BEFORE DELETE ON milestones
    BEGIN SELECT RAISE(ABORT, 'a milestone is never deleted'); END""",
)
trigger(
    Transaction.__table__,
    """CREATE TRIGGER transactions_never_change BEFORE UPDATE ON transactions
    BEGIN SELECT RAISE(ABORT, 'a transaction never changes'); END""",
)
trigger(
    Transaction.__table__,
    """CREATE TRIGGER transactions_stay BEFORE DELETE ON transactions
    BEGIN SELECT RAISE(ABORT, 'a transaction is never deleted'); END""",
)
