"""The service's own state."""

from enum import StrEnum
from typing import Any

from pydantic import ConfigDict, Field

from api.schemas.base import Out


class Message(Out):
    """A greeting."""

    message: str = Field(examples=["Banking REST Service API is running"])


class Health(StrEnum):
    """How well something works."""

    OK = "ok"
    DEGRADED = "degraded"
    UNAVAILABLE = "unavailable"


class CheckOut(Out):
    """What one check found."""

    model_config = ConfigDict(extra="allow", frozen=True)

    status: Health
    latency_ms: float
    __pydantic_extra__: dict[str, Any] = Field(init=False)


class HealthOut(Out):
    """The state of the service: unavailable when it cannot accept transfers, degraded when something else is wrong."""

    status: Health
    checks: dict[str, CheckOut]
