"""Rates and waits in answers: 429, and the fields of draft-ietf-httpapi-ratelimit-headers-11."""

from math import ceil

from fastapi import Request

from core.domain.errors import RateLimited
from core.domain.throttles import SECOND_US, Decision
from core.telemetry.metrics import http as metrics


def route_of(request: Request) -> str:
    """Return the route's template, or `none`; the path itself would contain what the client sent."""
    path: str = getattr(request.scope.get("route"), "path", "none")
    return path


def rate_limited(request: Request, name: str, wait_us: int) -> RateLimited:
    """Count a request that is refused by a rate or a wait of this name, and return the error to raise."""
    metrics.throttled.labels(route_of(request), name).inc()
    request.scope["state"]["beyond_share"] = True  # api/server/held.py holds the answer
    return RateLimited(_whole_seconds(wait_us))


def policy_item(name: str, quota: int, window: int) -> bytes:
    """Write one policy of the RateLimit-Policy field: `quota` requests in `window` seconds."""
    return f'"{name}";q={quota};w={window}'.encode()


def add_standing(request: Request, policy: bytes, name: str, decision: Decision) -> None:
    """Add what the client has left of a rate to the answer (api/server/observe.py writes the fields).

    A later decision by the same policy replaces the earlier one.
    """
    item = f'"{name}";r={decision.left};t={_whole_seconds(decision.more_us)}'.encode()
    rates = request.scope["state"].setdefault("rates", [])
    rates[:] = [rate for rate in rates if rate[0] != policy]
    rates.append((policy, item))


def _whole_seconds(us: int) -> int:
    """Round up to whole seconds, at least 1, so that a retry after that time succeeds."""
    return max(1, ceil(us / SECOND_US))
