"""Isolations: accounts that are set apart after a breach."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from core.storage.models.base import Base, Moment, trigger


class Isolation(Base):
    """One isolation: in effect until it ends. core/domain/isolation.py describes the four columns of JSON."""

    __tablename__ = "isolations"
    __table_args__ = (
        CheckConstraint("json_type(accounts) = 'object' AND json_type(sums) = 'object'", name="objects"),
        CheckConstraint("json_type(transfers) = 'array' AND json_type(known) = 'array'", name="arrays"),
        Index("ix_isolations_begun", "id", sqlite_where=text("ended_at IS NULL")),
        {"sqlite_strict": True},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    begun_at: Mapped[datetime] = mapped_column(Moment)
    begun_by: Mapped[int] = mapped_column(ForeignKey("users.id"))
    reason: Mapped[str] = mapped_column(Text)
    accounts: Mapped[str] = mapped_column(Text)
    transfers: Mapped[str] = mapped_column(Text)
    known: Mapped[str] = mapped_column(Text)
    sums: Mapped[str] = mapped_column(Text)
    ended_at: Mapped[datetime | None] = mapped_column(Moment)


trigger(
    Isolation.__table__,
    """CREATE TRIGGER isolations_end_once BEFORE UPDATE ON isolations WHEN OLD.ended_at IS NOT NULL
    BEGIN SELECT RAISE(ABORT, 'an isolation ends once'); END""",
)
trigger(
    Isolation.__table__,
    """CREATE TRIGGER isolations_stay BEFORE DELETE ON isolations
    BEGIN SELECT RAISE(ABORT, 'an isolation is never deleted'); END""",
)
