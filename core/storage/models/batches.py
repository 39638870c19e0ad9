"""Batches: transfers that were submitted together."""

from uuid import UUID

from sqlalchemy import CheckConstraint, Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from core.domain.batches import MAX_BATCH, BatchMode
from core.storage.models.base import Base, PublicId, Word, one_of, trigger


class Batch(Base):
    """One batch. Its row id is the sequence of its first transfer, and the others follow without a gap.

    So a transfer needs no column for its batch. The first transfer has the idempotency key of the request.
    `refused` lists the refused lines, each with its index and the code, in the order of the request.
    `failed_index` is set once, when an atomic batch fails: it is the line that made the others fail.
    """

    __tablename__ = "batches"
    __table_args__ = (
        one_of("mode", BatchMode),
        CheckConstraint(f"transfer_count BETWEEN 1 AND {MAX_BATCH}", name="transfers"),
        CheckConstraint("json_type(refused) = 'array'", name="refused"),
        CheckConstraint("mode = 'independent' OR refused = '[]'", name="all"),
        CheckConstraint(
            "failed_index IS NULL OR (mode = 'atomic' AND failed_index BETWEEN 0 AND transfer_count - 1)", name="failed"
        ),
        {"sqlite_strict": True},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    public_id: Mapped[UUID] = mapped_column(PublicId, unique=True)
    mode: Mapped[BatchMode] = mapped_column(Word(BatchMode))
    transfer_count: Mapped[int] = mapped_column(Integer)
    refused: Mapped[str] = mapped_column(Text)
    answer_version: Mapped[int] = mapped_column(Integer)
    failed_index: Mapped[int | None] = mapped_column(Integer)


trigger(
    Batch.__table__,
    """CREATE TRIGGER batches_keep_terms BEFORE UPDATE OF id, public_id, mode, transfer_count, refused, answer_version
    ON batches
    BEGIN SELECT RAISE(ABORT, 'the terms of a batch never change'); END""",
)
trigger(
    Batch.__table__,
    """CREATE TRIGGER batches_fail_once BEFORE UPDATE ON batches WHEN OLD.failed_index IS NOT NULL
    BEGIN SELECT RAISE(ABORT, 'a batch that has failed never changes'); END""",
)
trigger(
    Batch.__table__,
    """CREATE TRIGGER batches_stay BEFORE DELETE ON batches
    BEGIN SELECT RAISE(ABORT, 'a batch is never deleted'); END""",
)
