"""The state of the service."""

from enum import StrEnum
from typing import Any

from pydantic import ConfigDict, Field

from api.schemas.base import Out


class Message(Out):
    """A greeting."""

    message: str = Field(description="A fixed text.", examples=["Banking REST Service API is running"])


class Health(StrEnum):
    """The state of the service or of one check."""

    OK = "ok"
    DEGRADED = "degraded"
    UNAVAILABLE = "unavailable"


class CheckOut(Out):
    """The result of one check."""

    model_config = ConfigDict(extra="allow", frozen=True)

    status: Health = Field(description="Result of the check.", examples=["ok"])
    latency_ms: float = Field(description="Duration of the check in milliseconds.", examples=[0.412])
    __pydantic_extra__: dict[str, Any] = Field(init=False)


class HealthOut(Out):
    """The state of the service: unavailable if it cannot accept transfers, degraded if something else fails."""

    status: Health = Field(
        description="The worst result of all checks. `degraded`: transfers are accepted, but something else fails. "
        "`unavailable`: transfers cannot be accepted.",
        examples=["ok"],
    )
    checks: dict[str, CheckOut] = Field(
        description="Results by the name of the check, for operators; empty for all others. A check may add its own "
        "fields.",
        examples=[{"database": {"status": "ok", "latency_ms": 0.412}}],
    )
