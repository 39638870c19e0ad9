"""Refresh tokens in the database, by digest."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from core.domain.users import Role
from core.storage.models import RefreshToken, User


class StoredToken(NamedTuple):
    """A refresh token, and the fields that decide on its user's access."""

    id: int
    user_id: int
    family: UUID
    token_version: int
    expires_at: datetime
    spent_at: datetime | None
    user_public_id: UUID
    user_is_active: bool
    user_role: Role
    user_token_version: int
    """Newer than `token_version` if the user's tokens were ended since."""


_BY_DIGEST = (
    select(
        RefreshToken.id,
        RefreshToken.user_id,
        RefreshToken.family,
        RefreshToken.token_version,
        RefreshToken.expires_at,
        RefreshToken.spent_at,
        User.public_id.label("user_public_id"),
        User.is_active.label("user_is_active"),
        User.role.label("user_role"),
        User.token_version.label("user_token_version"),
    )
    .join(User, User.id == RefreshToken.user_id)
    .where(RefreshToken.digest == bindparam("digest"))
)


def add(
    connection: Connection,
    *,
    user_id: int,
    family: UUID,
    digest: bytes,
    token_version: int,
    created_at: datetime,
    expires_at: datetime,
) -> None:
    """Store a new token of a family."""
    connection.execute(
        insert(RefreshToken).values(
            user_id=user_id,
            family=family,
            digest=digest,
            token_version=token_version,
            created_at=created_at,
            expires_at=expires_at,
        )
    )


def find(connection: Connection, digest: bytes) -> StoredToken | None:
    """Read a token."""
    row = connection.execute(_BY_DIGEST, {"digest": digest}).mappings().first()
    return StoredToken(**row) if row else None


def spend(connection: Connection, token_id: int, now: datetime) -> None:
    """Mark a token as used."""
    connection.execute(update(RefreshToken).where(RefreshToken.id == token_id).values(spent_at=now))


def revoke_family(connection: Connection, family: UUID) -> None:
    """Delete every token of one log-in."""
    connection.execute(delete(RefreshToken).where(RefreshToken.family == family))


def forget_all_of(connection: Connection, user_id: int) -> None:
    """Delete every token of a user. There is no index for it: it is rare, and the table covers only about a month."""
    connection.execute(delete(RefreshToken).where(RefreshToken.user_id == user_id))


def forget_all(connection: Connection) -> int:
    """Delete every token, and return how many."""
    return connection.execute(delete(RefreshToken)).rowcount


def forget_expired(connection: Connection, now: datetime, *, limit: int) -> int:
    """Delete expired tokens, at most `limit`, and return how many."""
    old = select(RefreshToken.id).where(RefreshToken.expires_at < now).limit(limit)
    return connection.execute(delete(RefreshToken).where(RefreshToken.id.in_(old))).rowcount
