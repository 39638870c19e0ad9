"""Transactions: the legs of executed transfers. They are written once and never changed."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Integer
from sqlalchemy.orm import Mapped, mapped_column

from core.storage.models.base import Base, Moment, trigger


class Transaction(Base):
    """One leg. `amount` is negative for a debit. `previous_id` is the previous leg of the same account."""

    __tablename__ = "transactions"
    __table_args__ = (CheckConstraint("amount <> 0", name="amount"), {"sqlite_strict": True})

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    transfer_id: Mapped[int] = mapped_column(ForeignKey("transfers.id"))
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    amount: Mapped[int] = mapped_column(Integer)
    balance_after: Mapped[int] = mapped_column(Integer)
    posted_at: Mapped[datetime] = mapped_column(Moment)
    previous_id: Mapped[int | None] = mapped_column(Integer)


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
