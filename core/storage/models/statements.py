"""Statements, and the runs that make them. There is one run for each month, divided into groups of accounts."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from core.domain.statements import Period, StatementStatus
from core.storage.models.base import Base, Moment, Month, PublicId, Total, Word, trigger

_FIGURES = (
    "number",
    "holder",
    "bank_name",
    "opening_balance",
    "closing_balance",
    "total_credits",
    "total_debits",
    "transaction_count",
    "made_at",
)
"""Columns that are set in a final statement and null in a pending one. Address, BIC and the two legs can be null in
both."""


class StatementRun(Base):
    """A finished month, which can get no more legs, and the progress of its statements.

    Runs are opened in the order of their months, and each starts where the previous one ends. So nothing can be posted
    before `ends_at` of the newest row.
    """

    __tablename__ = "statement_runs"
    __table_args__ = (
        CheckConstraint("starts_at < ends_at", name="bounds"),
        CheckConstraint("groups_done BETWEEN 0 AND group_count", name="groups_done"),
        CheckConstraint("(groups_done = group_count) = (finished_at IS NOT NULL)", name="finished"),
        {"sqlite_strict": True},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    period: Mapped[Period] = mapped_column(Month, unique=True)
    time_zone: Mapped[str] = mapped_column(Text)
    starts_at: Mapped[datetime] = mapped_column(Moment)
    ends_at: Mapped[datetime] = mapped_column(Moment)
    opened_at: Mapped[datetime] = mapped_column(Moment)
    group_count: Mapped[int] = mapped_column(Integer)
    groups_done: Mapped[int] = mapped_column(Integer)
    statements: Mapped[int] = mapped_column(Integer)
    finished_at: Mapped[datetime | None] = mapped_column(Moment)


class StatementGroup(Base):
    """A range of accounts (by row id) in a run. One job makes their statements."""

    __tablename__ = "statement_groups"
    __table_args__ = (
        CheckConstraint("first_account_id <= last_account_id", name="accounts"),
        Index("ix_statement_groups_undone", "id", sqlite_where=text("done_at IS NULL")),
        {"sqlite_strict": True},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("statement_runs.id"))
    first_account_id: Mapped[int] = mapped_column(Integer)
    last_account_id: Mapped[int] = mapped_column(Integer)
    done_at: Mapped[datetime | None] = mapped_column(Moment)


class Statement(Base):
    """An account's month. Its transactions are the legs after `opening_transaction_id`, up to the closing one."""

    __tablename__ = "statements"
    __table_args__ = (
        UniqueConstraint("account_id", "run_id"),
        CheckConstraint("status IN ('pending', 'final')", name="status"),
        CheckConstraint(
            " AND ".join(f"(status = 'final') = ({column} IS NOT NULL)" for column in _FIGURES), name="figures"
        ),
        Index("ix_statements_pending", "id", sqlite_where=text("status = 'pending'")),
        {"sqlite_strict": True},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    public_id: Mapped[UUID] = mapped_column(PublicId, unique=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    run_id: Mapped[int] = mapped_column(ForeignKey("statement_runs.id"))
    status: Mapped[StatementStatus] = mapped_column(Word(StatementStatus))
    number: Mapped[int | None] = mapped_column(Integer)
    holder: Mapped[str | None] = mapped_column(Text)
    bank_name: Mapped[str | None] = mapped_column(Text)
    bank_address: Mapped[str | None] = mapped_column(Text)
    bank_bic: Mapped[str | None] = mapped_column(Text)
    opening_balance: Mapped[int | None] = mapped_column(Integer)
    closing_balance: Mapped[int | None] = mapped_column(Integer)
    total_credits: Mapped[int | None] = mapped_column(Total)
    total_debits: Mapped[int | None] = mapped_column(Total)
    transaction_count: Mapped[int | None] = mapped_column(Integer)
    opening_transaction_id: Mapped[int | None] = mapped_column(Integer)
    closing_transaction_id: Mapped[int | None] = mapped_column(Integer)
    made_at: Mapped[datetime | None] = mapped_column(Moment)


trigger(
    Statement.__table__,
    """CREATE TRIGGER statements_never_change BEFORE UPDATE ON statements WHEN OLD.status = 'final'
    BEGIN SELECT RAISE(ABORT, 'a statement never changes'); END""",
)
trigger(
    Statement.__table__,
    """CREATE TRIGGER statements_keep_their_month BEFORE UPDATE OF id, public_id, account_id, run_id ON statements
    BEGIN SELECT RAISE(ABORT, 'a statement keeps its account and its month'); END""",
)
trigger(
    Statement.__table__,
    """CREATE TRIGGER statements_stay BEFORE DELETE ON statements
    BEGIN SELECT RAISE(ABORT, 'a statement is never deleted'); END""",
)
trigger(
    StatementRun.__table__,
    """CREATE TRIGGER statement_runs_keep_their_month BEFORE UPDATE OF id, period, time_zone, starts_at, ends_at,
    opened_at, group_count ON statement_runs
    BEGIN SELECT RAISE(ABORT, 'a run keeps its month'); END""",
)
trigger(
    StatementRun.__table__,
    """CREATE TRIGGER statement_runs_stay BEFORE DELETE ON statement_runs
    BEGIN SELECT RAISE(ABORT, 'a run is never deleted'); END""",
)
trigger(
    StatementRun.__table__,
    """CREATE TRIGGER statement_runs_follow BEFORE INSERT ON statement_runs
    WHEN NEW.starts_at <> (SELECT ends_at FROM statement_runs ORDER BY id DESC LIMIT 1)
    BEGIN SELECT RAISE(ABORT, 'a run begins where the one before it ends'); END""",
)
