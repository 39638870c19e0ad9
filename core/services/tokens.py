"""Logging in, going on with a refresh token, logging out. All of it is written down."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection

from core.clock import now_us, to_datetime
from core.domain.audit import Action, Author
from core.domain.users import Identity
from core.ids import new_id
from core.security import new_refresh_token, refresh_token_digest
from core.services.audit import write_down
from core.storage import tokens, users


@dataclass(frozen=True, slots=True)
class Session:
    """What a log-in or a refresh gives: whose it is, and the refresh token to go on with."""

    user_id: UUID
    token_version: int
    refresh_token: str


def log_in(
    connection: Connection,
    author: Author,
    *,
    user_id: int,
    token_version: int,
    days: int,
    stronger_hash: str | None = None,
) -> Session | None:
    """Begin a family of refresh tokens that lives for `days`, for a user whose password has just been verified.

    `author` is nobody yet, and the user once the log-in succeeds. `stronger_hash` replaces the kept one where the
    cost of hashing has been raised since. None if the user was deactivated or changed the password in between: the
    failure is written down, so this must be committed.
    """
    user = users.read(connection, user_id)
    if user is None or not user.is_active or user.token_version != token_version:
        fail_log_in(connection, author, user.public_id if user else None)
        return None
    if stronger_hash is not None:
        users.set_password_hash(connection, user_id, stronger_hash)
    now = to_datetime(now_us())
    token = _add(connection, user_id, new_id(), token_version, now=now, expires_at=now + timedelta(days=days))
    write_down(connection, replace(author, user_id=user.id), Action.LOGGED_IN, user.public_id)
    return Session(user.public_id, token_version, token)


def fail_log_in(connection: Connection, author: Author, user_id: UUID | None) -> None:
    """Write down that a log-in failed, and for whom, where the address is somebody's.

    Neither the address nor the password that was sent: people type passwords into the wrong field.
    """
    write_down(connection, author, Action.LOG_IN_FAILED, user_id)


def refresh(connection: Connection, author: Author, refresh_token: str) -> Session | None:
    """Spend a refresh token for the next of its family, which ends when the log-in's life does.

    None where the token gives no access. A spent token that comes again has been stolen, from one side or the
    other: its whole family is revoked and that is written down, so this must be committed. `author` is nobody, since
    the token does not tell which of the two came.
    """
    now = to_datetime(now_us())
    token = tokens.find(connection, refresh_token_digest(refresh_token))
    if token is None:
        return None
    usable = token["is_active"] and token["token_version"] == token["current_version"] and token["expires_at"] > now
    if token["spent_at"] is not None or not usable:
        tokens.revoke_family(connection, token["family"])
        if token["spent_at"] is not None:
            write_down(connection, author, Action.REFRESH_TOKEN_REUSED, token["public_id"])
        return None
    tokens.spend(connection, token["id"], now)
    following = _add(
        connection, token["user_id"], token["family"], token["token_version"], now=now, expires_at=token["expires_at"]
    )
    return Session(token["public_id"], token["token_version"], following)


def log_out(connection: Connection, author: Author, identity: Identity) -> None:
    """End every token of a user, at once."""
    users.end_tokens(connection, identity.id)
    write_down(connection, author, Action.LOGGED_OUT, identity.public_id)


def forget_expired(connection: Connection, *, limit: int = 1000) -> int:
    """Delete refresh tokens past their life, `limit` at most, and count them."""
    return tokens.forget_expired(connection, to_datetime(now_us()), limit=limit)


def _add(
    connection: Connection, user_id: int, family: UUID, token_version: int, *, now: datetime, expires_at: datetime
) -> str:
    token = new_refresh_token()
    tokens.add(
        connection,
        user_id=user_id,
        family=family,
        digest=refresh_token_digest(token),
        token_version=token_version,
        created_at=now,
        expires_at=expires_at,
    )
    return token
