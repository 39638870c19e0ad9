"""Users in the database."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, bindparam, case, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from core.domain.users import NO_PASSWORD, Identity, Role, UserView
from core.ids import new_id
from core.storage.models import User
from core.storage.models.base import Flag
from core.storage.rows import columns
from core.storage.sql import Statement

_ANY = select(*columns(User, UserView))
_BY_ID = _ANY.where(User.id == bindparam("id"))
_BY_EMAIL = _ANY.where(User.email == bindparam("email"))
_PEOPLE = _ANY.where(User.role != Role.SYSTEM)
_BY_PUBLIC_ID = _PEOPLE.where(User.public_id == bindparam("id"))
_LISTED = (
    _PEOPLE.where(User.id > bindparam("after")).order_by(User.id).offset(bindparam("offset")).limit(bindparam("limit"))
)


def add(
    connection: Connection, *, email: str, name: str | None, password_hash: str, role: Role, created_at: datetime
) -> UUID:
    """Insert an active user and return the public id. The e-mail address must be in lower case."""
    public_id = new_id()
    connection.execute(
        insert(User).values(
            public_id=public_id,
            email=email,
            name=name,
            password_hash=password_hash,
            role=role,
            is_active=True,
            token_version=0,
            created_at=created_at,
        )
    )
    return public_id


def email_is_taken(connection: Connection, email: str) -> bool:
    """Return whether a user has this address."""
    return connection.execute(select(User.id).where(User.email == email)).first() is not None


def set_password(connection: Connection, user_id: int, password_hash: str) -> None:
    """Change a password's hash and end all earlier tokens."""
    connection.execute(
        update(User).where(User.id == user_id).values(password_hash=password_hash, token_version=User.token_version + 1)
    )


def set_password_hash(connection: Connection, user_id: int, password_hash: str) -> None:
    """Store a stronger hash of the same password."""
    connection.execute(update(User).where(User.id == user_id).values(password_hash=password_hash))


def end_tokens(connection: Connection, user_id: int) -> None:
    """End all earlier tokens of a user."""
    connection.execute(update(User).where(User.id == user_id).values(token_version=User.token_version + 1))


def end_all_tokens(connection: Connection, version: int) -> int:
    """End all earlier tokens of all users, except erased ones, who have none. Returns the number of these users.

    Token versions become `version` or higher.
    """
    raised = case((User.token_version < version, version), else_=User.token_version + 1)
    return connection.execute(update(User).where(User.erased_at.is_(None)).values(token_version=raised)).rowcount


def read(connection: Connection, user_id: int) -> UserView | None:
    """Read one user inside a unit of work."""
    row = connection.execute(_BY_ID, {"id": user_id}).first()
    return UserView(*row) if row else None


_IDENTITIES = Statement("SELECT id, public_id, role, token_version FROM users WHERE id IN (:ids*) AND is_active = 1")


def identities(connection: Connection, user_ids: Collection[int]) -> dict[int, Identity]:
    """Read the active ones of some users, by row id, as they are in this unit of work."""
    if not user_ids:
        return {}
    found = _IDENTITIES.run(connection, ids=user_ids)
    return {row[0]: Identity(row[0], UUID(bytes=row[1]), Role(row[2]), row[3]) for row in found}


def find(connection: Connection, public_id: UUID) -> UserView | None:
    """Read one user inside a unit of work by public id; the bank's own user is left out."""
    row = connection.execute(_BY_PUBLIC_ID, {"id": public_id}).first()
    return UserView(*row) if row else None


def find_by_email(connection: Connection, email: str) -> UUID | None:
    """Find a user's public id by e-mail address, in lower case."""
    return connection.execute(select(User.public_id).where(User.email == email)).scalar_one_or_none()


def set_active(connection: Connection, user_id: int, *, active: bool) -> None:
    """Restore or revoke a user's access; all earlier tokens end either way."""
    connection.execute(
        update(User).where(User.id == user_id).values(is_active=active, token_version=User.token_version + 1)
    )


def other_operator_is_active(connection: Connection, user_id: int) -> bool:
    """Return whether an operator besides this user has access."""
    others = (
        select(User.id)
        .where(User.role == Role.OPERATOR, User.is_active == literal(True, Flag), User.id != user_id)
        .limit(1)
    )
    return connection.execute(others).first() is not None


def set_pending_limit(connection: Connection, user_id: int, limit: int | None) -> None:
    """Set how many pending transfers a user's accounts may have together; None: the number in the settings."""
    connection.execute(update(User).where(User.id == user_id).values(pending_limit=limit))


def erase(connection: Connection, user_id: int, *, email: str, erased_at: datetime) -> None:
    """Erase everything that names a user, replace the address with `email`, and end all tokens."""
    connection.execute(
        update(User)
        .where(User.id == user_id)
        .values(
            email=email,
            name=None,
            password_hash=NO_PASSWORD,
            token_version=User.token_version + 1,
            erased_at=erased_at,
        )
    )


async def get_by_public_id(session: AsyncSession, public_id: UUID) -> UserView | None:
    """Read one user by public id; the bank's own user is left out."""
    row = (await session.execute(_BY_PUBLIC_ID, {"id": public_id})).first()
    return UserView(*row) if row else None


async def list_all(session: AsyncSession, *, after_id: int, offset: int, limit: int) -> list[UserView]:
    """Read users, oldest first, starting after row id `after_id`; the bank's own user is left out."""
    page = {"after": after_id, "offset": offset, "limit": limit}
    return [UserView(*row) for row in await session.execute(_LISTED, page)]


async def get_by_email(session: AsyncSession, email: str) -> UserView | None:
    """Read one user by address, in lower case."""
    row = (await session.execute(_BY_EMAIL, {"email": email})).first()
    return UserView(*row) if row else None


async def get(session: AsyncSession, user_id: int) -> UserView:
    """Read one user by row id; raises NoResultFound if the user does not exist."""
    return UserView(*(await session.execute(_BY_ID, {"id": user_id})).one())
