"""Users: their roles and their identity."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

SHORTEST_PASSWORD = 12
LONGEST_PASSWORD = 128
"""Both lengths are in characters."""
NO_PASSWORD = "!"
"""Stored in place of a hash. No password matches it."""


def erased_email(user_id: UUID) -> str:
    """Make the e-mail address of an erased user. It holds no personal data, and its domain cannot exist (RFC 2606)."""
    return f"{user_id.hex}@erased.invalid"


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
