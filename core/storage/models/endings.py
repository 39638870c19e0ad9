"""Endings: how each transfer ended. Settling and cancelling write them, and nothing that accepting writes."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, Integer, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from core.domain.transfers import TransferStatus
from core.storage.models.base import Base, Moment, Word, trigger

UNEXECUTED = "payer_id IS NOT NULL"
"""Failed or cancelled. The database evaluates this for each transfer that settles; looking for NULL costs the least."""


class Ending(Base):
    """How a transfer ended, and when. Its row id is the transfer's.

    `payer_id` is the account that would have paid, if it did not: lists find what failed and was cancelled by it.
    """

    __tablename__ = "endings"
    __table_args__ = (
        CheckConstraint("status IN ('completed', 'failed', 'cancelled')", name="status"),
        CheckConstraint("(status = 'failed') = (failure_code IS NOT NULL)", name="failure"),
        CheckConstraint("(status = 'completed') = (payer_id IS NULL)", name="payer"),
        Index("ix_endings_unexecuted", "status", "id", sqlite_where=text(UNEXECUTED)),
        Index("ix_endings_unexecuted_by_payer", "payer_id", "status", "id", sqlite_where=text(UNEXECUTED)),
        {"sqlite_strict": True},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    status: Mapped[TransferStatus] = mapped_column(Word(TransferStatus))
    ended_at: Mapped[datetime] = mapped_column(Moment)
    failure_code: Mapped[str | None] = mapped_column(Text)
    payer_id: Mapped[int | None] = mapped_column(Integer)


trigger(
    Ending.__table__,
    """CREATE TRIGGER endings_never_change BEFORE UPDATE ON endings
    BEGIN SELECT RAISE(ABORT, 'an ending never changes'); END""",
)
trigger(
    Ending.__table__,
    """CREATE TRIGGER endings_stay BEFORE DELETE ON endings
    BEGIN SELECT RAISE(ABORT, 'an ending is never deleted'); END""",
)
