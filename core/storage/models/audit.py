"""The audit log: acts of operators and users, and refused access. Entries are written once and never changed."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from core.domain.audit import Action
from core.storage.models.base import Base, Moment, PublicId, Word, trigger

_WITHOUT_AUTHOR = ", ".join(f"'{action}'" for action in Action if action.may_lack_author)


class AuditEntry(Base):
    """One act: who did what to which object, when, and from where. `details` is a JSON object."""

    __tablename__ = "audit_entries"
    __table_args__ = (
        CheckConstraint(f"author_id IS NOT NULL OR action IN ({_WITHOUT_AUTHOR})", name="author"),
        # SQLite appends the row id to each index entry, so each of these indexes lists entries with the newest last.
        Index("ix_audit_entries_action", "action"),
        Index("ix_audit_entries_author_id", "author_id", sqlite_where=text("author_id IS NOT NULL")),
        Index("ix_audit_entries_object_id", "object_id", sqlite_where=text("object_id IS NOT NULL")),
        Index("ix_audit_entries_at", "at"),
        {"sqlite_strict": True},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    at: Mapped[datetime] = mapped_column(Moment)
    author_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    action: Mapped[Action] = mapped_column(Word(Action))
    object_id: Mapped[UUID | None] = mapped_column(PublicId)
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
