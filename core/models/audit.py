"""The audit log: acts of operators. Written once, never changed."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from core.domain.audit import Action
from core.models.base import Base, Moment, PublicId, Word, trigger


class AuditEntry(Base):
    """One act: who did what to which object, when, and from where. `details` is a JSON object."""

    __tablename__ = "audit_entries"
    __table_args__ = ({"sqlite_strict": True},)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    at: Mapped[datetime] = mapped_column(Moment)
    author_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    action: Mapped[Action] = mapped_column(Word(Action))
    object_id: Mapped[UUID] = mapped_column(PublicId)
    details: Mapped[str] = mapped_column(Text)
    request_id: Mapped[str] = mapped_column(Text)
    address: Mapped[str | None] = mapped_column(Text)


trigger(
    AuditEntry.__table__,
    """CREATE TRIGGER audit_entries_never_change BEFORE UPDATE ON audit_entries
    BEGIN SELECT RAISE(ABORT, 'what was written down never changes'); END""",
)
trigger(
    AuditEntry.__table__,
    """CREATE TRIGGER audit_entries_stay BEFORE DELETE ON audit_entries
    BEGIN SELECT RAISE(ABORT, 'what was written down stays'); END""",
)
