"""Users."""

from typing import Annotated, Self
from uuid import UUID

from pydantic import AfterValidator, Field

from api.schemas import fields
from api.schemas.base import In, Out, Shown, Text
from core.domain.users import LONGEST_PASSWORD, SHORTEST_PASSWORD, Role, UserView
from core.services.identity.emails import normalised

Password = Annotated[
    Text,
    Field(
        min_length=SHORTEST_PASSWORD,
        max_length=LONGEST_PASSWORD,
        description="12 to 128 characters. Passwords that are easily guessed are refused.",
        examples=["correct horse battery"],
    ),
]


def _email(text: str) -> str:
    """Check an address. It is stored in its normal form (core/services/identity/emails.py)."""
    normalised(text)
    return text


class SignUp(In):
    """A request to become a customer."""

    email: Annotated[
        str,
        AfterValidator(_email),
        Field(
            max_length=254,
            description="E-mail address, which the user logs in with. It is stored without spaces around it, in lower "
            "case, with an international domain decoded; every spelling of the same form logs in.",
            examples=["ada@example.com"],
            json_schema_extra={"format": "email"},
        ),
    ]
    password: Password
    name: Annotated[
        Annotated[Shown, Field(min_length=1, max_length=200)] | None,
        Field(description="Name of the user, as statements show it. Null or missing: no name.", examples=["Ada"]),
    ] = None


class NewPassword(In):
    """A change of password."""

    current_password: Annotated[
        Text,
        Field(
            max_length=LONGEST_PASSWORD,
            description="The password that is valid until now.",
            examples=["correct horse battery"],
        ),
    ]
    new_password: Annotated[Password, Field(examples=["staple and a horse"])]


class UserOut(Out):
    """A user."""

    id: UUID = Field(description="Id of the user.", examples=[fields.USER])
    email: str = Field(
        description="E-mail address in lower case. For an erased user, an address that does not exist.",
        examples=["ada@example.com"],
    )
    name: str | None = Field(
        description="Name of the user. Null if the user gave none or was erased.", examples=["Ada"]
    )
    role: Role = Field(
        description="`customer`: uses the bank. `operator`: also runs it. `system`: the bank itself, which cannot log "
        "in.",
        examples=["customer"],
    )
    is_active: bool = Field(description="False while the user is deactivated and cannot log in.", examples=[True])
    created_at: fields.CreatedAt

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
