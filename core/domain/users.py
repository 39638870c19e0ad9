"""Users: their roles and their identity."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from core.domain.errors import ErrorCode, Kind

SYSTEM_USER_ID = 1
"""Row id of the only system user, which the first migration creates."""

SHORTEST_PASSWORD = 12
LONGEST_PASSWORD = 128
"""Both lengths are in characters."""
NO_PASSWORD = "!"
"""Stored in place of a hash. No password matches it."""


def erased_email(user_id: UUID) -> str:
    """Make the e-mail address of an erased user. It holds no personal data, and its domain cannot exist (RFC 2606)."""
    return f"{user_id.hex}@erased.invalid"


class UserError(ErrorCode):
    """Errors about users."""

    ACTIVE = (
        "user_active",
        Kind.CONFLICT,
        "The user still has access. Deactivate the user first.",
        "Deactivate the user first.",
    )
    EMAIL_TAKEN = (
        "email_taken",
        Kind.CONFLICT,
        "This e-mail address is already registered.",
        "Log in, or use another address.",
    )
    ERASED = "user_erased", Kind.CONFLICT, "The user was erased permanently.", "Ask the person to sign up again."
    LAST_OPERATOR = (
        "last_operator",
        Kind.CONFLICT,
        "This is the last active operator. Create or reactivate another one first.",
        "Create or reactivate another operator first.",
    )
    NOT_FOUND = "user_not_found", Kind.NOT_FOUND, "User not found.", "Check the id."


class Role(StrEnum):
    """What a user may do."""

    CUSTOMER = "customer"
    OPERATOR = "operator"
    SYSTEM = "system"
    """The bank itself, which submits what no person submits. It cannot log in."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The user that a token belongs to, with the user's current role and token version."""

    id: int
    public_id: UUID
    role: Role
    token_version: int


@dataclass(frozen=True, slots=True)
class UserView:
    """A user's current state. Its `repr` omits the personal data and the hash of the password."""

    id: int
    """Its row id, which gives the order of sign-up."""
    public_id: UUID
    email: str = field(repr=False)
    """In lower case."""
    name: str | None = field(repr=False)
    password_hash: str = field(repr=False)
    role: Role
    is_active: bool
    token_version: int
    created_at: datetime
    erased_at: datetime | None
    """When the personal data was erased; None if it was not."""
    pending_limit: int | None = None
    """How many pending transfers the user's accounts may have together; None: the number in the settings."""
