"""Who somebody is, and what they may do."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

SHORTEST_PASSWORD = 12
LONGEST_PASSWORD = 128
"""In characters, like the one above."""
NO_PASSWORD = "!"
"""Stands where a hash would: no password fits it."""


def erased_email(user_id: UUID) -> str:
    """Make the address of an erased user: of nothing that they said, in a domain that nobody can have (RFC 2606)."""
    return f"{user_id.hex}@erased.invalid"


class Role(StrEnum):
    """What a user may do."""

    CUSTOMER = "customer"
    OPERATOR = "operator"
    SYSTEM = "system"
    """The bank itself: who submits what no person does. It cannot log in."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a token speaks for, as of now."""

    id: int
    public_id: UUID
    role: Role
    token_version: int
