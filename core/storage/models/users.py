"""Users: customers, operators, and the bank itself."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, Integer, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from core.domain.users import NO_PASSWORD, Role
from core.storage.models.base import Base, Flag, Moment, PublicId, Word, one_of, trigger

_ERASED = (
    f"erased_at IS NULL OR (email = lower(hex(public_id)) || '@erased.invalid' AND name IS NULL "
    f"AND password_hash = '{NO_PASSWORD}' AND is_active = 0)"
)


class User(Base):
    """A user. `token_version` is increased to invalidate all tokens that were issued so far.

    The row of an erased user stays, because other rows refer to it, but it names no person any more.
    """

    __tablename__ = "users"
    __table_args__ = (
        one_of("role", Role),
        CheckConstraint("is_active IN (0, 1)", name="is_active"),
        CheckConstraint("email = lower(email)", name="email_lower"),
        Index("ix_users_pending_limit", "pending_limit", sqlite_where=text("pending_limit IS NOT NULL")),
        {"sqlite_strict": True},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    public_id: Mapped[UUID] = mapped_column(PublicId, unique=True)
    email: Mapped[str] = mapped_column(Text, unique=True)
    name: Mapped[str | None] = mapped_column(Text)
    password_hash: Mapped[str] = mapped_column(Text)
    role: Mapped[Role] = mapped_column(Word(Role))
    is_active: Mapped[bool] = mapped_column(Flag)
    token_version: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(Moment)
    erased_at: Mapped[datetime | None] = mapped_column(Moment, CheckConstraint(_ERASED, name="erased"))
    pending_limit: Mapped[int | None] = mapped_column(
        Integer, CheckConstraint("pending_limit >= 1", name="pending_limit")
    )
    """How many pending transfers the user's accounts may have together; null: as many as the service's settings say."""


trigger(
    User.__table__,
    """CREATE TRIGGER users_stay_erased BEFORE UPDATE ON users WHEN OLD.erased_at IS NOT NULL
    BEGIN SELECT RAISE(ABORT, 'an erased user never changes'); END""",
)
