"""Shared code of the baselines that speak HTTP: tokens, and the format of a transfer."""

import os
from typing import Annotated
from uuid import UUID

import jwt
from fastapi import Header, HTTPException
from pydantic import BaseModel, Field

SECRET = os.environ.get("BENCH_SECRET", "")
FUNDS = 10**12

Key = Annotated[str, Header(alias="Idempotency-Key", min_length=1, max_length=255)]


class Order(BaseModel):
    """A submitted transfer; the amount is in minor units."""

    from_account_id: UUID
    to_account_id: UUID
    amount: int = Field(strict=True, ge=1, le=10**15)


def user_of(authorization: Annotated[str, Header()]) -> int:
    """Check a token and return its user. Raises HTTPException (401)."""
    try:
        return int(jwt.decode(authorization.removeprefix("Bearer "), SECRET, ["HS256"])["sub"])
    except (jwt.InvalidTokenError, ValueError):
        raise HTTPException(401) from None


def token_for(user_id: int, secret: str) -> str:
    """Create a token."""
    return jwt.encode({"sub": str(user_id)}, secret, "HS256")
