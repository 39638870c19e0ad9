"""Users in the database."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from core.domain.users import NO_PASSWORD, Identity, Role
from core.ids import new_id
from core.storage.models import User


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


def read(connection: Connection, user_id: int) -> User | None:
    """Read one user inside a unit of work."""
    row = connection.execute(select(User.__table__).where(User.id == user_id)).mappings().first()
    return User(**row) if row else None


def identities(connection: Connection, user_ids: Collection[int]) -> dict[int, Identity]:
    """Read the active ones of some users, by row id, as they are in this unit of work."""
    marks = ",".join("?" * len(user_ids))
    found = connection.exec_driver_sql(
        f"SELECT id, public_id, role, token_version FROM users WHERE id IN ({marks}) AND is_active = 1",
        tuple(user_ids),
    )
    return {row[0]: Identity(row[0], UUID(bytes=row[1]), Role(row[2]), row[3]) for row in found}


def find(connection: Connection, public_id: UUID) -> User | None:
    """Read one user inside a unit of work by public id; the bank's own user is left out."""
    query = select(User.__table__).where(User.public_id == public_id, User.role != Role.SYSTEM)
    row = connection.execute(query).mappings().first()
    return User(**row) if row else None


def find_by_email(connection: Connection, email: str) -> UUID | None:
    """Find a user's public id by e-mail address, in lower case."""
    return connection.execute(select(User.public_id).where(User.email == email)).scalar_one_or_none()


def set_active(connection: Connection, user_id: int, *, active: bool) -> None:
    """Restore or revoke a user's access; all earlier tokens end either way."""
    connection.execute(
        update(User).where(User.id == user_id).values(is_active=active, token_version=User.token_version + 1)
    )


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


async def get_by_public_id(session: AsyncSession, public_id: UUID) -> User | None:
    """Read one user by public id; the bank's own user is left out."""
    query = select(User).where(User.public_id == public_id, User.role != Role.SYSTEM)
    return (await session.execute(query)).scalar_one_or_none()


async def list_all(session: AsyncSession, *, after_id: int, offset: int, limit: int) -> Sequence[User]:
    """Read users, oldest first, starting after row id `after_id`; the bank's own user is left out."""
    query = select(User).where(User.id > after_id, User.role != Role.SYSTEM)
    return (await session.execute(query.order_by(User.id).offset(offset).limit(limit))).scalars().all()


async def get_by_email(session: AsyncSession, email: str) -> User | None:
    """Read one user by address, in lower case."""
    return (await session.execute(select(User).where(User.email == email))).scalar_one_or_none()


async def get(session: AsyncSession, user_id: int) -> User:
    """Read one user by row id; raises NoResultFound if the user does not exist."""
    return (await session.execute(select(User).where(User.id == user_id))).scalar_one()
