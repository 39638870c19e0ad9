"""Tokens."""

from typing import Annotated, Literal

from fastapi import Form
from pydantic import ConfigDict, Field

from api.schemas.base import In, Out


class LogIn(In):
    """OAuth2's password form (RFC 6749, 4.3.2). `username` is the e-mail address; the optional fields are ignored."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"username": "ada@example.com", "password": "correct horse battery"}]}
    )

    username: Annotated[str, Field(min_length=1, max_length=254)]
    password: Annotated[str, Field(min_length=1, max_length=128)]
    grant_type: Literal["password", ""] | None = None
    scope: str | None = None
    client_id: str | None = None
    client_secret: str | None = None


LogInForm = Annotated[LogIn, Form()]


class Refresh(In):
    """A refresh token to exchange."""

    refresh_token: Annotated[str, Field(min_length=1, max_length=512)]


class TokensOut(Out):
    """An access token, and the refresh token to renew it with."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"
    expires_in: int = Field(description="Seconds for which the access token is valid.")
    refresh_token: str = Field(description="Valid for one `POST /token/refresh`.")
