"""Tokens."""

from typing import Annotated, Literal

from fastapi import Form
from pydantic import ConfigDict, Field

from api.schemas.base import In, Out

_REFRESH_TOKEN = "q3sZ1kYl0eJ7T2cXv9bNfR5wUaHm8dPgVtLxCyQoKiE"
_DEVICE_TOKEN = "WyJrM1ZxIiwiMDFhMjBiZTIiLDE3OTYxMTE5OTksIjlmMmMiXQ.c2lnbmF0dXJl"


class LogIn(In):
    """OAuth2's password form (RFC 6749, 4.3.2). `username` is the e-mail address; the optional fields are ignored."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"username": "ada@example.com", "password": "correct horse battery"}]}
    )

    username: Annotated[
        str,
        Field(min_length=1, max_length=254, description="The user's e-mail address.", examples=["ada@example.com"]),
    ]
    password: Annotated[
        str,
        Field(min_length=1, max_length=128, description="The user's password.", examples=["correct horse battery"]),
    ]
    grant_type: Annotated[
        Literal["password", ""] | None,
        Field(description="OAuth2's name of this flow. It may be missing.", examples=["password"]),
    ] = None
    scope: Annotated[str | None, Field(description="Ignored: tokens have no scopes.", examples=[""])] = None
    client_id: Annotated[str | None, Field(description="Ignored: clients are not registered.", examples=[""])] = None
    device_token: Annotated[
        str | None,
        Field(
            max_length=1024,
            description="The `device_token` of an earlier log-in on this device. With it, failed log-ins from "
            "elsewhere cannot delay this one. Ignored if it is not valid for this user.",
            examples=[_DEVICE_TOKEN],
        ),
    ] = None
    client_secret: Annotated[str | None, Field(description="Ignored: clients are not registered.", examples=[""])] = (
        None
    )


LogInForm = Annotated[LogIn, Form()]


class Refresh(In):
    """A refresh token to exchange."""

    refresh_token: Annotated[
        str,
        Field(
            min_length=1,
            max_length=512,
            description="The refresh token of the last log-in or refresh. It is valid once.",
            examples=[_REFRESH_TOKEN],
        ),
    ]


class TokensOut(Out):
    """An access token, and the refresh token to renew it with."""

    access_token: str = Field(
        description="Token that authenticates requests: send it as `Authorization: Bearer …`.",
        examples=["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIyIn0.c2lnbmF0dXJl"],
    )
    token_type: Literal["bearer"] = Field(default="bearer", description="Type of the access token (RFC 6750).")
    expires_in: int = Field(description="Number of seconds for which the access token is valid.", examples=[900])
    refresh_token: str = Field(
        description="Token for a new pair of tokens. It is valid for one `POST /token/refresh`.",
        examples=[_REFRESH_TOKEN],
    )


class LogInOut(TokensOut):
    """The tokens of a log-in."""

    device_token: str = Field(
        description="Token that names this device. Keep it, and send it with the next log-in. It gives no access.",
        examples=[_DEVICE_TOKEN],
    )
