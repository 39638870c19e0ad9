"""People who sign in, the operators among them, and the bank itself."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from core.domain.users import NO_PASSWORD, Role
from core.models.base import Base, Flag, Moment, PublicId, Word, one_of, trigger

SYSTEM_USER_ID = 1
"""Row id of the one system user, which the first migration makes."""

_ERASED = (
    f"erased_at IS NULL OR (email = lower(hex(public_id)) || '@erased.invalid' AND name IS NULL "
    f"AND password_hash = '{NO_PASSWORD}' AND is_active = 0)"
)


class User(Base):
    """A user; `token_version` counts up when all tokens given so far must end.

    Of an erased one nothing is left that names a person: the row stays, as all that was done points to it.
    """

    __tablename__ = "users"
    __table_args__ = (
        one_of("role", Role),
        CheckConstraint("is_active IN (0, 1)", name="is_active"),
        CheckConstraint("email = lower(email)", name="email_lower"),
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


trigger(
    User.__table__,
    """CREATE TRIGGER users_stay_erased BEFORE UPDATE ON users WHEN OLD.erased_at IS NOT NULL
    BEGIN SELECT RAISE(ABORT, 'an erased user never changes'); END""",
)
