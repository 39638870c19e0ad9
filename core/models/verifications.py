"""What each verification of the ledger found."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Integer, LargeBinary, Text
from sqlalchemy.orm import Mapped, mapped_column

from core.domain.verification import Scope
from core.models.base import Base, Moment, Word, one_of


class Verification(Base):
    """One reading of the ledger, whole or from where the last one ended.

    `height` and `head_hash` name the block it went up to, `anchored_height` the highest that an anchor spoke of.
    `details` is a JSON array of the breaches that were listed. As long as the newest row has breaches, nothing is
    settled.
    """

    __tablename__ = "verifications"
    __table_args__ = (
        one_of("scope", Scope),
        CheckConstraint("json_type(details) = 'array'", name="details"),
        CheckConstraint("(height IS NULL) = (head_hash IS NULL)", name="head"),
        {"sqlite_strict": True},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    scope: Mapped[Scope] = mapped_column(Word(Scope))
    started_at: Mapped[datetime] = mapped_column(Moment)
    finished_at: Mapped[datetime] = mapped_column(Moment)
    accounts: Mapped[int] = mapped_column(Integer)
    transfers: Mapped[int] = mapped_column(Integer)
    transactions: Mapped[int] = mapped_column(Integer)
    breaches: Mapped[int] = mapped_column(Integer)
    details: Mapped[str] = mapped_column(Text)
    height: Mapped[int | None] = mapped_column(Integer)
    head_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    anchored_height: Mapped[int | None] = mapped_column(Integer)
