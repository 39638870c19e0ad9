"""Messages whose work keeps failing. They are counted in the database, because a queue server can lose them."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, Integer, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from core.storage.models.base import Base, Moment, PublicId


class DeadLetter(Base):
    """A message whose work has failed at least once. It is parked after too many failures.

    `arguments` is a JSON array, as in the message. The row is deleted when the work succeeds.
    """

    __tablename__ = "dead_letters"
    __table_args__ = (
        UniqueConstraint("actor", "arguments"),
        CheckConstraint("attempts >= 0", name="attempts"),
        CheckConstraint("json_type(arguments) = 'array'", name="arguments"),
        Index("ix_dead_letters_parked", "id", sqlite_where=text("parked_at IS NOT NULL")),
        {"sqlite_strict": True},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    public_id: Mapped[UUID] = mapped_column(PublicId, unique=True)
    queue: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    arguments: Mapped[str] = mapped_column(Text)
    error: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(Integer)
    first_failed_at: Mapped[datetime] = mapped_column(Moment)
    last_failed_at: Mapped[datetime] = mapped_column(Moment)
    parked_at: Mapped[datetime | None] = mapped_column(Moment)
