"""The fence: one row that is written to learn whether a commit that failed can still surface."""

from sqlalchemy import CheckConstraint, Integer
from sqlalchemy.orm import Mapped, mapped_column

from core.models.base import Base


class Fence(Base):
    """One row. A commit that succeeds after a failed one overwrites what the failed one left in the log."""

    __tablename__ = "fences"
    __table_args__ = (CheckConstraint("id = 1", name="id"), {"sqlite_strict": True})

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    passed: Mapped[int] = mapped_column(Integer)
