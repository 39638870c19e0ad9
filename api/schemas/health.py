"""The state of the service."""

from enum import StrEnum
from typing import Any

from pydantic import ConfigDict, Field

from api.schemas.base import Out


class Message(Out):
    """A greeting."""

    message: str = Field(examples=["Banking REST Service API is running"])


class Health(StrEnum):
    """The state of the service or of one check."""

    OK = "ok"
    DEGRADED = "degraded"
    UNAVAILABLE = "unavailable"


class CheckOut(Out):
    """The result of one check."""

    model_config = ConfigDict(extra="allow", frozen=True)

    status: Health
    latency_ms: float
    __pydantic_extra__: dict[str, Any] = Field(init=False)


class HealthOut(Out):
    """The state of the service: unavailable if it cannot accept transfers, degraded if something else fails."""

    status: Health
    checks: dict[str, CheckOut]
