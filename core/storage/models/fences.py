"""The fence: a row that is written to find out whether a failed commit can still surface."""

from sqlalchemy import CheckConstraint, Integer
from sqlalchemy.orm import Mapped, mapped_column

from core.storage.models.base import Base


class Fence(Base):
    """The only row. A successful commit after a failed one overwrites what the failed one left in the log."""

    __tablename__ = "fences"
    __table_args__ = (CheckConstraint("id = 1", name="id"), {"sqlite_strict": True})

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    passed: Mapped[int] = mapped_column(Integer)
