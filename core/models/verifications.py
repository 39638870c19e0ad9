"""What each verification of the ledger found."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from core.models.base import Base, Moment


class Verification(Base):
    """One reading of the whole ledger. `details` is a JSON array of the breaches that were listed."""

    __tablename__ = "verifications"
    __table_args__ = (
        CheckConstraint("json_type(details) = 'array'", name="details"),
        {"sqlite_strict": True},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    started_at: Mapped[datetime] = mapped_column(Moment)
    finished_at: Mapped[datetime] = mapped_column(Moment)
    accounts: Mapped[int] = mapped_column(Integer)
    transfers: Mapped[int] = mapped_column(Integer)
    transactions: Mapped[int] = mapped_column(Integer)
    breaches: Mapped[int] = mapped_column(Integer)
    details: Mapped[str] = mapped_column(Text)
