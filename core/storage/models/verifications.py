"""Results of verifications of the ledger."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Integer, LargeBinary, Text
from sqlalchemy.orm import Mapped, mapped_column

from core.domain.verification import Scope
from core.storage.models.base import Base, Moment, Word, one_of


class Verification(Base):
    """One verification of the ledger, of the whole or from the end of the last one.

    `height` and `head_hash` are those of the last block that was read. `anchored_height` is the height of the highest
    block with an anchor. `details` is a JSON array of the listed breaches. While the newest row has breaches, nothing
    is settled.
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
