"""Blocks: the chain of hashes over legs and endings. They are written once and never changed."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, Integer, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from core.domain.blocks import BlockKind
from core.storage.models.base import Base, Moment, Word, one_of, trigger


class Block(Base):
    """One block. core/domain/blocks.py describes its columns and what its hash covers."""

    __tablename__ = "blocks"
    __table_args__ = (
        one_of("kind", BlockKind),
        CheckConstraint("(kind = 'genesis') = (height = 0)", name="genesis"),
        CheckConstraint("kind <> 'cancellation' OR (first_sequence = last_sequence AND leg_count = 0)", name="one"),
        CheckConstraint("leg_count >= 0 AND ending_count >= 0", name="counts"),
        CheckConstraint("length(hash) = 32", name="hash"),
        Index("ix_blocks_cancelled", "first_sequence", sqlite_where=text("kind = 'cancellation'")),
        {"sqlite_strict": True},
    )

    height: Mapped[int] = mapped_column(Integer, primary_key=True)
    kind: Mapped[BlockKind] = mapped_column(Word(BlockKind))
    first_leg_id: Mapped[int] = mapped_column(Integer)
    leg_count: Mapped[int] = mapped_column(Integer)
    first_sequence: Mapped[int] = mapped_column(Integer)
    last_sequence: Mapped[int] = mapped_column(Integer)
    ending_count: Mapped[int] = mapped_column(Integer)
    made_at: Mapped[datetime] = mapped_column(Moment)
    hash: Mapped[bytes] = mapped_column(LargeBinary)


trigger(
    Block.__table__,
    """CREATE TRIGGER blocks_never_change BEFORE UPDATE ON blocks
    BEGIN SELECT RAISE(ABORT, 'a block never changes'); END""",
)
trigger(
    Block.__table__,
    """CREATE TRIGGER blocks_stay BEFORE DELETE ON blocks
    BEGIN SELECT RAISE(ABORT, 'a block is never deleted'); END""",
)
