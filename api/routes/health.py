"""The state of the service, for people, load balancers and supervisors. Strangers see nothing but the status."""

from typing import Any, cast

from fastapi import APIRouter, Request, Response

from api.dependencies import is_operator
from api.http.checks import CheckedRoute
from api.runtime.health import HealthState
from api.schemas.health import Health, HealthOut
from api.schemas.problems import problems
from core.domain.errors import CommonError

router = APIRouter(tags=["service"], route_class=CheckedRoute)

_ANSWERS: dict[int | str, dict[str, Any]] = {
    503: {"model": HealthOut, "description": "Transfers cannot be accepted."},
    **problems(CommonError.RATE_LIMITED),
}


@router.get(
    "/health/live",
    summary="Check that the process answers",
    response_description="The process answers.",
    responses=problems(CommonError.RATE_LIMITED),
)
async def get_liveness() -> HealthOut:
    """Answer without any check, for a supervisor that restarts a process that hangs."""
    return HealthOut(status=Health.OK, checks={})


@router.get(
    "/health/ready",
    summary="Check that transfers can be accepted",
    response_description="Transfers can be accepted.",
    responses=_ANSWERS,
)
async def get_readiness(request: Request, response: Response) -> HealthOut:
    """State whether the database is writable and migrated and has room to grow, for load balancers."""
    return _answer(response, HealthOut(status=_state_of(request).ready(), checks={}))


@router.get(
    "/health",
    summary="Check every part of the service",
    response_description="Transfers can be accepted. If `status` is `degraded`, something else fails.",
    responses=_ANSWERS,
)
async def get_health(request: Request, response: Response) -> HealthOut:
    """State how every part is. Without queue or workers the service is degraded: transfers are still accepted.

    `checks` is empty, unless an operator sends an access token. Any other token is ignored.
    """
    state = _state_of(request)
    found = state.details() if await is_operator(request) else HealthOut(status=state.overall(), checks={})
    return _answer(response, found)


def _state_of(request: Request) -> HealthState:
    return cast(HealthState, request.app.state.health)


def _answer(response: Response, found: HealthOut) -> HealthOut:
    if found.status is Health.UNAVAILABLE:
        response.status_code = 503
    response.headers["Cache-Control"] = "no-store"
    return found
