"""The last trusted observation of the clocks."""

from sqlalchemy import CheckConstraint, Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from core.storage.models.base import Base


class Clock(Base):
    """The only row; missing before the first observation. The scheduler updates it each minute, but not in doubt.

    So it keeps what the clocks showed before a jump. All times are in microseconds.
    """

    __tablename__ = "clocks"
    __table_args__ = (
        CheckConstraint("id = 1", name="id"),
        CheckConstraint("uptime >= 0", name="uptime"),
        {"sqlite_strict": True},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    wall_at: Mapped[int] = mapped_column(Integer)
    uptime: Mapped[int] = mapped_column(Integer)
    boot_id: Mapped[str] = mapped_column(Text)
    ledger_at: Mapped[int] = mapped_column(Integer)
