"""Request ids, timing and the headers of every answer."""

import re
import time
from collections.abc import Mapping
from functools import cache
from http.client import BAD_REQUEST
from logging import DEBUG
from typing import Any

import structlog
from prometheus_client import Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import unhandled
from api.runtime.intake import begin_request
from api.server.held import HeldAnswers
from core.domain.cards import without_card_numbers
from core.ids import new_id
from core.telemetry import tracing
from core.telemetry.logging import get_logger
from core.telemetry.metrics import http as metrics

log = get_logger(__name__)


_CLIENT_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
CACHE_CONTROL = "private, no-cache"

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""The methods that metrics and traces tell apart."""


class Observe:
    """The outermost layer: names each request, times it, adds the common headers, and answers unexpected errors.

    Every request gets an id of ours. A client's own `X-Request-ID` is next to it in logs and traces, and is returned in
    `X-Client-Request-ID`, if it is a plain word of up to 128 characters and contains no card number.
    `hsts_seconds` is sent to browsers that came over TLS, to the server or to a trusted proxy. Refusals of clients
    beyond their share are `held`.
    """

    def __init__(self, app: ASGIApp, hsts_seconds: int, held: HeldAnswers | None = None) -> None:
        self._app = app
        self._held = held
        hsts = {"Strict-Transport-Security": f"max-age={hsts_seconds}"} if hsts_seconds else {}
        self._over_tls = SECURITY_HEADERS | hsts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id, clients = str(new_id()), _client_id(headers.getlist("x-request-id"))
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)
        if clients:
            scope["state"]["client_request_id"] = clients
            structlog.contextvars.bind_contextvars(client_request_id=clients)
        begin_request()
        started, status, pause = time.perf_counter(), 0, 0.0
        tracer = tracing.active
        traced = None if tracer is None else tracer.begin_request(request_id, headers.getlist("traceparent"), clients)

        async def send_with_headers(message: Message) -> None:
            nonlocal status, pause
            if message["type"] == "http.response.start":
                status = message["status"]
                security = self._over_tls if scope["scheme"] == "https" else SECURITY_HEADERS
                if status >= BAD_REQUEST and self._held is not None:
                    pause = await self._held.hold(scope)
                _add_headers(MutableHeaders(scope=message), scope["state"], security)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception as error:
            if status:
                raise  # the answer has begun, so the connection can only be dropped
            await unhandled(error, request_id)(scope, receive, send_with_headers)
        finally:
            _observe(scope, status, time.perf_counter() - started - pause)
            if tracer is not None and traced is not None:
                tracer.end_request(traced, _method_of(scope), _route_of(scope), status)
            structlog.contextvars.clear_contextvars()


def _client_id(sent: list[str]) -> str | None:
    """Return the client's own request id if it sent one that may be logged: a plain word without a card number."""
    if len(sent) != 1 or not _CLIENT_ID.fullmatch(sent[0]) or without_card_numbers(sent[0]) != sent[0]:
        return None
    return sent[0]


def _add_headers(headers: MutableHeaders, state: Mapping[str, Any], security: Mapping[str, str]) -> None:
    headers["X-Request-ID"] = state["request_id"]
    if clients := state.get("client_request_id"):
        headers["X-Client-Request-ID"] = clients
    if rates := state.get("rates"):  # set by api/throttling/standing.py alone, so existing fields are not looked for
        policies, standings = zip(*rates, strict=True)
        headers.raw.append((b"ratelimit-policy", b", ".join(policies)))
        headers.raw.append((b"ratelimit", b", ".join(standings)))
    headers.setdefault("Cache-Control", CACHE_CONTROL)
    for name, value in security.items():
        headers.setdefault(name, value)


def _observe(scope: Scope, status: int, seconds: float) -> None:
    method, route = _method_of(scope) or "other", _route_of(scope) or "none"
    _duration_of(method, route, status).observe(seconds)
    if log.is_enabled_for(DEBUG):
        log.debug("request", method=scope["method"], route=route, status=status, duration_ms=round(seconds * 1000, 3))


def _method_of(scope: Scope) -> str | None:
    """Return the method if it exists. A client could invent any number of methods."""
    method: str = scope["method"]
    return method if method in METHODS else None


def _route_of(scope: Scope) -> str | None:
    """Return the template of the route, never the path: a client could invent any number of paths."""
    route: str | None = getattr(scope.get("route"), "path", None)
    return route


@cache
def _duration_of(method: str, route: str, status: int) -> Histogram:
    """Return the series of an answer. It is cached, because looking it up takes longer than observing."""
    return metrics.http_request_duration.labels(method, route, status)
