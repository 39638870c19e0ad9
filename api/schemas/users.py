"""Users."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from pydantic import BeforeValidator, EmailStr, Field

from api.schemas.base import In, Out, Text
from core.domain.users import LONGEST_PASSWORD, SHORTEST_PASSWORD, Role, UserView

Password = Annotated[
    Text,
    Field(
        min_length=SHORTEST_PASSWORD,
        max_length=LONGEST_PASSWORD,
        description="Passwords that are easily guessed are refused.",
        examples=["correct horse battery"],
    ),
]


def _bare(value: object) -> object:
    if isinstance(value, str) and any(character in "<> \t\r\n" for character in value):
        raise ValueError("value is not a valid email address")
    return value


class SignUp(In):
    """A request to become a customer."""

    email: Annotated[EmailStr, BeforeValidator(_bare), Field(max_length=254, examples=["ada@example.com"])]
    password: Password
    name: Annotated[Text, Field(min_length=1, max_length=200, examples=["Ada"])] | None = None


class NewPassword(In):
    """A change of password."""

    current_password: Annotated[Text, Field(max_length=LONGEST_PASSWORD)]
    new_password: Password


class UserOut(Out):
    """A user."""

    id: UUID
    email: str
    name: str | None
    role: Role
    is_active: bool
    created_at: datetime

    @classmethod
    def of(cls, user: UserView) -> Self:
        """Show a user."""
        return cls(
            id=user.public_id,
            email=user.email,
            name=user.name,
            role=user.role,
            is_active=user.is_active,
            created_at=user.created_at,
        )
