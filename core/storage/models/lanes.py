"""Lanes: the numbers and times that the ledger goes on with."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from core.storage.models.base import Base, Moment


class Lane(Base):
    """One of the two lanes in which the ledger is written: who has a lane numbers what it writes.

    The lane `accept` numbers transfers, the lane `settle` numbers legs. `newest_at` is the time of its newest row, and
    times never go back. Every transfer up to the `watermark` of the lane `settle` has ended.
    """

    __tablename__ = "lanes"
    __table_args__ = (
        CheckConstraint("name IN ('accept', 'settle')", name="name"),
        {"sqlite_strict": True, "sqlite_with_rowid": False},
    )

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    next_id: Mapped[int] = mapped_column(Integer)
    newest_at: Mapped[datetime] = mapped_column(Moment)
    watermark: Mapped[int] = mapped_column(Integer)
