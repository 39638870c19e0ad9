"""Scars: proposals to replace the trust in blocks after a breach, and those that a second operator confirmed."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Integer, LargeBinary, Text
from sqlalchemy.orm import Mapped, mapped_column

from core.storage.models.base import Base, Moment, trigger


class Scar(Base):
    """One proposal; a scar once it is confirmed. core/domain/scars.py describes what its block says.

    `content` is the SHA-256 of all that the first operator saw, so that the second one confirms the same.
    """

    __tablename__ = "scars"
    __table_args__ = (
        CheckConstraint("first_height BETWEEN 0 AND last_height + 1", name="heights"),
        CheckConstraint("length(content) = 32", name="content"),
        CheckConstraint("confirmed_by <> proposed_by", name="operators"),
        CheckConstraint(
            "(confirmed_by IS NULL) = (confirmed_at IS NULL) AND (confirmed_by IS NULL) = (public_key IS NULL) "
            "AND (confirmed_by IS NULL) = (signature IS NULL)",
            name="confirmed",
        ),
        {"sqlite_strict": True},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    first_height: Mapped[int] = mapped_column(Integer)
    last_height: Mapped[int] = mapped_column(Integer)
    content: Mapped[bytes] = mapped_column(LargeBinary)
    reason: Mapped[str] = mapped_column(Text)
    proposed_by: Mapped[int] = mapped_column(ForeignKey("users.id"))
    proposed_at: Mapped[datetime] = mapped_column(Moment)
    confirmed_by: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    confirmed_at: Mapped[datetime | None] = mapped_column(Moment)
    public_key: Mapped[bytes | None] = mapped_column(LargeBinary)
    signature: Mapped[bytes | None] = mapped_column(LargeBinary)


trigger(
    Scar.__table__,
    """CREATE TRIGGER scars_keep_terms BEFORE UPDATE OF id, first_height, last_height, content, reason, proposed_by,
        proposed_at ON scars
    BEGIN SELECT RAISE(ABORT, 'the terms of a scar never change'); END""",
)
trigger(
    Scar.__table__,
    """CREATE TRIGGER scars_are_confirmed_once BEFORE UPDATE ON scars WHEN OLD.confirmed_at IS NOT NULL
    BEGIN SELECT RAISE(ABORT, 'a scar is confirmed once'); END""",
)
trigger(
    Scar.__table__,
    """CREATE TRIGGER scars_stay BEFORE DELETE ON scars
    BEGIN SELECT RAISE(ABORT, 'a scar stays for ever'); END""",
)
