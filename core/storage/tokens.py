"""Refresh tokens in the database, by digest."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from core.storage.models import RefreshToken, User


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


def find(connection: Connection, digest: bytes) -> RowMapping | None:
    """Read a token and the fields that decide on its user's access: `is_active`, `current_version`, `public_id`."""
    query = (
        select(
            RefreshToken.__table__,
            User.is_active,
            User.public_id,
            User.token_version.label("current_version"),
        )
        .join(User, User.id == RefreshToken.user_id)
        .where(RefreshToken.digest == digest)
    )
    return connection.execute(query).mappings().first()


def spend(connection: Connection, token_id: int, now: datetime) -> None:
    """Mark a token as used."""
    connection.execute(update(RefreshToken).where(RefreshToken.id == token_id).values(spent_at=now))


def revoke_family(connection: Connection, family: UUID) -> None:
    """Delete every token of one log-in."""
    connection.execute(delete(RefreshToken).where(RefreshToken.family == family))


def forget_all_of(connection: Connection, user_id: int) -> None:
    """Delete every token of a user. There is no index for it: it is rare, and the table covers only about a month."""
    connection.execute(delete(RefreshToken).where(RefreshToken.user_id == user_id))


def forget_expired(connection: Connection, now: datetime, *, limit: int) -> int:
    """Delete expired tokens, at most `limit`, and return how many."""
    old = select(RefreshToken.id).where(RefreshToken.expires_at < now).limit(limit)
    return connection.execute(delete(RefreshToken).where(RefreshToken.id.in_(old))).rowcount
