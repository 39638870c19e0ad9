"""Large documents: those that wait to be made, and those whose files are kept."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from core.domain.statements import Period
from core.storage.models.base import Base, Moment, Month, PublicId, trigger


class Document(Base):
    """One document. `month` is the statement as JSON, in the state in which the document was asked for.

    `number` is that of the statement, null if it was provisional. `newest_id` is the statement's last leg.
    """

    __tablename__ = "documents"
    __table_args__ = (
        CheckConstraint("json_valid(month)", name="month"),
        CheckConstraint("transaction_count >= 1", name="transactions"),
        Index("ix_documents_owner_id", "owner_id", "id"),
        Index("ix_documents_pending", "owner_id", "id", sqlite_where=text("made_at IS NULL")),
        Index("ix_documents_expires_at", "expires_at"),
        {"sqlite_strict": True},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    public_id: Mapped[UUID] = mapped_column(PublicId, unique=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    period: Mapped[Period] = mapped_column(Month)
    number: Mapped[int | None] = mapped_column(Integer)
    newest_id: Mapped[int] = mapped_column(Integer)
    media_type: Mapped[str] = mapped_column(Text)
    transaction_count: Mapped[int] = mapped_column(Integer)
    file_name: Mapped[str] = mapped_column(Text)
    month: Mapped[str] = mapped_column(Text)
    asked_at: Mapped[datetime] = mapped_column(Moment)
    made_at: Mapped[datetime | None] = mapped_column(Moment)
    expires_at: Mapped[datetime] = mapped_column(Moment)


trigger(
    Document.__table__,
    """CREATE TRIGGER documents_keep_terms BEFORE UPDATE OF id, public_id, owner_id, account_id, period, number,
    newest_id, media_type, transaction_count, file_name, month, asked_at ON documents
    BEGIN SELECT RAISE(ABORT, 'the terms of a document never change'); END""",
)
trigger(
    Document.__table__,
    """CREATE TRIGGER documents_are_made_once BEFORE UPDATE ON documents WHEN OLD.made_at IS NOT NULL
    BEGIN SELECT RAISE(ABORT, 'a document is made once'); END""",
)
