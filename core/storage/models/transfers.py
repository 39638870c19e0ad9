"""Transfers: orders to move money. One is inserted once and never changed; it is pending until it has an ending."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, LargeBinary, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from core.domain.money import MAX_AMOUNT
from core.domain.transfers import TransferKind
from core.storage.models.base import Base, Moment, PublicId, Word, one_of, trigger

WAYPOINT = "((created_at + id) & 65535) * 40503 & 65535 < 1024"
"""One transfer in 64 (see `core.storage.models.transactions.WAYPOINT`)."""


class Transfer(Base):
    """A transfer. Its row id is its `sequence`, the order of acceptance and of settlement.

    The idempotency key is a column, so that it is stored exactly as long as its transfer. `previous_id` is the previous
    transfer from the same account.
    """

    __tablename__ = "transfers"
    __table_args__ = (
        one_of("kind", TransferKind),
        CheckConstraint(f"amount BETWEEN 1 AND {MAX_AMOUNT}", name="amount"),
        CheckConstraint("from_account_id <> to_account_id", name="accounts"),
        CheckConstraint("(idempotency_key IS NULL) = (fingerprint IS NULL)", name="fingerprint"),
        Index("ix_transfers_waypoints", "from_account_id", "id", sqlite_where=text(WAYPOINT)),
        Index(
            "uq_transfers_idempotency_key",
            "idempotency_key",
            "submitted_by",
            unique=True,
            sqlite_where=text("idempotency_key IS NOT NULL"),
        ),
        {"sqlite_strict": True},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    public_id: Mapped[UUID] = mapped_column(PublicId, unique=True)
    kind: Mapped[TransferKind] = mapped_column(Word(TransferKind))
    from_account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    to_account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    amount: Mapped[int] = mapped_column(Integer)
    currency: Mapped[str] = mapped_column(Text)
    description: Mapped[str | None] = mapped_column(Text)
    submitted_by: Mapped[int] = mapped_column(ForeignKey("users.id"))
    request_id: Mapped[str] = mapped_column(Text)
    idempotency_key: Mapped[str | None] = mapped_column(Text)
    fingerprint: Mapped[bytes | None] = mapped_column(LargeBinary)
    answer_version: Mapped[int] = mapped_column(Integer)
    previous_id: Mapped[int | None] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(Moment)


trigger(
    Transfer.__table__,
    """CREATE TRIGGER transfers_never_change BEFORE UPDATE ON transfers
    BEGIN SELECT RAISE(ABORT, 'a transfer never changes'); END""",
)
trigger(
    Transfer.__table__,
    """CREATE TRIGGER transfers_stay BEFORE DELETE ON transfers
    BEGIN SELECT RAISE(ABORT, 'a transfer is never deleted'); END""",
)
