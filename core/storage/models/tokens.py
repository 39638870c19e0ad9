"""Refresh tokens. They are stored as digests, and each can be used once."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Integer, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from core.storage.models.base import Base, Moment, PublicId


class RefreshToken(Base):
    """A refresh token. Its family is the log-in that it comes from. Using a spent token revokes the whole family."""

    __tablename__ = "refresh_tokens"
    __table_args__ = ({"sqlite_strict": True},)

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    family: Mapped[UUID] = mapped_column(PublicId, index=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    token_version: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(Moment)
    expires_at: Mapped[datetime] = mapped_column(Moment, index=True)
    spent_at: Mapped[datetime | None] = mapped_column(Moment)
