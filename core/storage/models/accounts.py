"""Accounts: balances in minor units, and the ends of their chains of transactions and transfers."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from core.domain.accounts import AccountKind, AccountStatus, FreezeScope
from core.domain.money import CUSTOMER_BALANCE_BOUND, EXTERNAL_BALANCE_BOUND
from core.storage.models.base import Base, Moment, PublicId, Word, one_of


class Account(Base):
    """A customer's account, or a currency's external one (which has no owner).

    `last_transaction_id` is the newest link of a chain (`previous_id` of transactions). A chain needs no index, which
    would cost a random page write for each leg. Sums are stored in two halves (core/storage/rows.py).
    """

    __tablename__ = "accounts"
    __table_args__ = (
        one_of("kind", AccountKind),
        one_of("status", AccountStatus),
        CheckConstraint("(kind = 'external') = (owner_id IS NULL)", name="owner"),
        CheckConstraint("(status = 'frozen') = (freeze_scope IS NOT NULL)", name="frozen"),
        CheckConstraint("freeze_scope IN ('debit', 'all')", name="freeze_scope"),
        CheckConstraint("(status = 'closed') = (closed_at IS NOT NULL)", name="closed"),
        CheckConstraint("length(currency) = 3", name="currency"),
        CheckConstraint(f"overdraft_limit BETWEEN 0 AND {CUSTOMER_BALANCE_BOUND}", name="overdraft_limit"),
        CheckConstraint(
            f"CASE kind WHEN 'external' THEN abs(balance) <= {EXTERNAL_BALANCE_BOUND} "
            f"ELSE balance BETWEEN -overdraft_limit AND {CUSTOMER_BALANCE_BOUND} END",
            name="balance",
        ),
        Index("ix_accounts_owner_id_id", "owner_id", "id"),
        Index("uq_accounts_external_currency", "currency", unique=True, sqlite_where=text("kind = 'external'")),
        {"sqlite_strict": True},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    public_id: Mapped[UUID] = mapped_column(PublicId, unique=True)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    account_number: Mapped[str] = mapped_column(Text, unique=True)
    kind: Mapped[AccountKind] = mapped_column(Word(AccountKind))
    currency: Mapped[str] = mapped_column(Text)
    status: Mapped[AccountStatus] = mapped_column(Word(AccountStatus))
    freeze_scope: Mapped[FreezeScope | None] = mapped_column(Word(FreezeScope))
    balance: Mapped[int] = mapped_column(Integer)
    overdraft_limit: Mapped[int] = mapped_column(Integer)
    last_transaction_id: Mapped[int | None] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(Moment)
    closed_at: Mapped[datetime | None] = mapped_column(Moment)
    released_count: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    released_high: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    released_low: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """The transfers from it that have ended: how many, and the sum of their amounts."""
    leg_count: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    credits_high: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    credits_low: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    """The running totals of its legs: how many, and the sum of the credits."""


class Reservation(Base):
    """What was ever reserved for transfers from an account: how many there were, and the sum of their amounts.

    Accepting writes it; settling writes what it releases of it to the account. Both only grow, and the difference is
    what is reserved now. `last_transfer_id` is the newest link of the chain of transfers from the account.
    """

    __tablename__ = "reservations"
    __table_args__ = ({"sqlite_strict": True},)

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    reserved_count: Mapped[int] = mapped_column(Integer)
    reserved_high: Mapped[int] = mapped_column(Integer)
    reserved_low: Mapped[int] = mapped_column(Integer)
    last_transfer_id: Mapped[int | None] = mapped_column(Integer)
