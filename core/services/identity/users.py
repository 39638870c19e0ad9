"""Signing up, and changing a password."""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import now_us, to_datetime
from core.domain.audit import Action, Author
from core.domain.errors import CommonError, Part, Refusal
from core.domain.users import Identity, Role, UserError, UserView
from core.services.audit import write_down
from core.services.identity.emails import looked_up
from core.storage import users


def sign_up(
    connection: Connection, *, email: str, name: str | None, password_hash: str, role: Role = Role.CUSTOMER
) -> UUID:
    """Create a user and return the public id; raises Refusal (`email_taken`) for a taken address in any spelling."""
    email = looked_up(email)
    if users.email_is_taken(connection, email):
        raise Refusal(UserError.EMAIL_TAKEN, about=Part.EMAIL)
    return users.add(
        connection,
        email=email,
        name=name,
        password_hash=password_hash,
        role=role,
        created_at=to_datetime(now_us()),
    )


def changed_since(connection: Connection, asking: Collection[Identity]) -> set[Identity]:
    """Find the identities that have changed since the request: deactivated, logged out, or of another role.

    A request waits for its turn to write, and must not act on an identity that was valid only when it arrived.
    """
    present = users.identities(connection, {identity.id for identity in asking}) if asking else {}
    return {identity for identity in asking if present.get(identity.id) != identity}


def change_password(connection: Connection, author: Author, identity: Identity, *, password_hash: str) -> None:
    """Set a new password and end all earlier tokens.

    Raises Refusal if the identity's own token has ended since, because another change came first.
    """
    user = users.read(connection, identity.id)
    if user is None or not user.is_active or user.token_version != identity.token_version:
        raise Refusal(CommonError.UNAUTHENTICATED)
    users.set_password(connection, user.id, password_hash)
    write_down(connection, author, Action.PASSWORD_CHANGED, user.public_id)


async def get(session: AsyncSession, user_id: int) -> UserView:
    """Read an existing user by row id."""
    return await users.get(session, user_id)


async def find_by_email(session: AsyncSession, email: str) -> UserView | None:
    """Read a user by e-mail address, ignoring case."""
    return await users.get_by_email(session, looked_up(email))
