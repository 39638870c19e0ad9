"""Transfers: orders to move money, from acceptance to end."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, LargeBinary, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from core.domain.money import MAX_AMOUNT
from core.domain.transfers import TransferKind, TransferStatus
from core.storage.models.base import Base, Moment, PublicId, Word, one_of, trigger

UNEXECUTED = "failure_code IS NOT NULL OR status = 'cancelled'"
"""Failed or cancelled. SQLite evaluates this for each transfer that settles; looking for NULL costs the least."""

WAYPOINT = "settled_at IS NULL AND ((created_at + id) & 65535) * 40503 & 65535 < 1024"
"""One pending transfer in 64 (see `core.storage.models.transactions.WAYPOINT`)."""


class Transfer(Base):
    """A transfer. Its row id is its `sequence`, the order of acceptance and of settlement.

    The idempotency key is a column, so that it is stored exactly as long as its transfer. `previous_id` is the previous
    transfer from the same account. `settled_at` is the time of its end, also if it failed or was cancelled.
    """

    __tablename__ = "transfers"
    __table_args__ = (
        one_of("kind", TransferKind),
        one_of("status", TransferStatus),
        CheckConstraint(f"amount BETWEEN 1 AND {MAX_AMOUNT}", name="amount"),
        CheckConstraint("from_account_id <> to_account_id", name="accounts"),
        CheckConstraint("(status = 'pending') = (settled_at IS NULL)", name="settled"),
        CheckConstraint("(status = 'failed') = (failure_code IS NOT NULL)", name="failure"),
        CheckConstraint("(idempotency_key IS NULL) = (fingerprint IS NULL)", name="fingerprint"),
        Index("ix_transfers_pending", "id", sqlite_where=text("status = 'pending'")),
        Index("ix_transfers_unexecuted", "status", "id", sqlite_where=text(UNEXECUTED)),
        Index("ix_transfers_unexecuted_by_payer", "from_account_id", "status", "id", sqlite_where=text(UNEXECUTED)),
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
    status: Mapped[TransferStatus] = mapped_column(Word(TransferStatus))
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
    settled_at: Mapped[datetime | None] = mapped_column(Moment)
    failure_code: Mapped[str | None] = mapped_column(Text)


trigger(
    Transfer.__table__,
    """CREATE TRIGGER transfers_end_once BEFORE UPDATE ON transfers WHEN OLD.status <> 'pending'
    BEGIN SELECT RAISE(ABORT, 'a transfer that has ended never changes'); END""",
)
trigger(
    Transfer.__table__,
    """CREATE TRIGGER transfers_keep_terms BEFORE UPDATE OF id, public_id, kind, from_account_id, to_account_id, amount,
    currency, description, submitted_by, request_id, idempotency_key, fingerprint, answer_version, previous_id,
    created_at ON transfers
    BEGIN SELECT RAISE(ABORT, 'the terms of a transfer never change'); END""",
)
trigger(
    Transfer.__table__,
    """CREATE TRIGGER transfers_stay BEFORE DELETE ON transfers
    BEGIN SELECT RAISE(ABORT, 'a transfer is never deleted'); END""",
)
