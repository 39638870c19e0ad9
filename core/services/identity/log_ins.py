"""Logging in, refreshing tokens, and logging out. The audit log records log-ins, failures, thefts and log-outs."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection

from core.clock import now_us, to_datetime
from core.domain.audit import Action, Author
from core.domain.users import Identity, Role
from core.ids import new_id
from core.security.access_tokens import new_refresh_token, refresh_token_digest
from core.services import clocks
from core.services.audit import write_down
from core.storage import tokens, users


@dataclass(frozen=True, slots=True)
class LogIn:
    """A log-in as its client sees it after it began or was refreshed: the user, and the next refresh token."""

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
) -> LogIn | None:
    """Begin a family of refresh tokens that lives for `days`, for a user whose password has just been verified.

    `author` names no user yet; a successful log-in is recorded with the user. `stronger_hash` replaces the stored hash
    if the cost of hashing has been raised since. Returns None if the user was deactivated or changed the password in
    between. That failure is recorded, so the caller must commit.
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
    return LogIn(user.public_id, token_version, token)


def fail_log_in(connection: Connection, author: Author, user_id: UUID | None) -> None:
    """Record that a log-in failed, and for which user if the address is known.

    Neither the address nor the password that was sent is recorded: people type passwords into the wrong field.
    """
    write_down(connection, author, Action.LOG_IN_FAILED, user_id)


def refresh(connection: Connection, author: Author, refresh_token: str, *, operators_too: bool = True) -> LogIn | None:
    """Exchange a refresh token for the next one of its family, which ends when the life of the log-in ends.

    Returns None if the token gives no access; without `operators_too`, an operator's token is as unknown as any other
    text. If a spent token is used again, one of its two users is a thief: the whole family is revoked and that is
    recorded, so the caller must commit. `author` names no user, since the token does not tell which of the two sent it.
    """
    now = to_datetime(now_us())
    token = tokens.find(connection, refresh_token_digest(refresh_token))
    if token is None or (token.user_role is Role.OPERATOR and not operators_too):
        return None
    if token.spent_at is None and token.expires_at <= now:
        return None  # the clock may be wrong, so only the job deletes it
    usable = token.user_is_active and token.token_version == token.user_token_version
    if token.spent_at is not None or not usable:
        tokens.revoke_family(connection, token.family)
        if token.spent_at is not None:
            write_down(connection, author, Action.REFRESH_TOKEN_REUSED, token.user_public_id)
        return None
    tokens.spend(connection, token.id, now)
    following = _add(connection, token.user_id, token.family, token.token_version, now=now, expires_at=token.expires_at)
    return LogIn(token.user_public_id, token.token_version, following)


def log_out(connection: Connection, author: Author, identity: Identity) -> None:
    """End all tokens of a user immediately."""
    users.end_tokens(connection, identity.id)
    write_down(connection, author, Action.LOGGED_OUT, identity.public_id)


def forget_expired(connection: Connection, *, limit: int = 1000) -> int:
    """Delete expired refresh tokens, at most `limit`, and return how many: none while the clock is in doubt."""
    if clocks.holds(connection, "the deletion of expired tokens"):
        return 0
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
