"""The application: the only place where the API's parts are put together."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import redis
import redis.asyncio
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from api.dependencies import user_of
from api.errors import add_error_handlers, answer
from api.http.checks import CheckedRoute
from api.http.direct import Direct
from api.http.methods import Methods
from api.http.pages import Pages
from api.openapi import DESCRIPTION, openapi
from api.routes import ROUTERS, batches, docs
from api.runtime import close_runtime, open_runtime
from api.runtime.health import HealthState
from api.schemas.health import Health
from api.server import cors
from api.server.admission import Admission
from api.server.connection_bounds import ConnectionBounds
from api.server.held import HeldAnswers
from api.server.observe import Observe
from api.server.paths import Paths
from api.server.pulse import Pulse
from api.server.request_bounds import RequestBounds
from api.server.strangers import Strangers
from core import VERSION
from core.processes.lifeline import Heartbeat, ask_to_stop, freeze_garbage_collector
from core.settings import Settings, load_settings, variable
from core.storage.engines import open_engine
from core.telemetry.logging import configure_logging, get_logger, report_to_sentry
from core.telemetry.metrics import serve_metrics
from core.telemetry.tracing import start_tracing, stop_tracing

log = get_logger(__name__)

PUBLIC = frozenset(
    route.path
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute) and not (isinstance(route, CheckedRoute) and route.needs_user)
)
"""The paths of the calls that need no token."""


def create_app(
    settings: Settings | None = None, queue: redis.Redis | None = None, tally: redis.asyncio.Redis | None = None
) -> FastAPI:
    """Make the application. Without arguments: from the environment, as uvicorn calls it.

    `queue` and `tally` replace the clients that are made from `REDIS_URL`: for the queue, and for the count of
    failures.
    """
    settings = settings or load_settings()
    held = HeldAnswers(seconds=settings.refusal_seconds, most=settings.connections // 4)
    app = Application(
        lambda framework: _around(framework, settings, held),
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},  # it has paths
        title="Giro",
        version=VERSION,
        description=DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan(settings, queue, tally, held),
    )
    routers = ROUTERS if settings.docs else tuple(router for router in ROUTERS if router is not docs.router)
    for router in routers:
        # The routes are copied. The framework would match the routes of an included router a second time, for each
        # request.
        app.router.routes.extend(router.routes)
    add_error_handlers(app)
    app.state.methods = Methods(routers)
    app.state.pages = Pages()
    app.state.operator_port = settings.operator_port
    app.state.held = held
    return app


class Application(FastAPI):
    """The framework, inside our own layers. The most frequent calls bypass it."""

    def __init__(self, around: Callable[[ASGIApp], ASGIApp], **options: Any) -> None:
        super().__init__(**options)
        self._outermost = around(super().__call__)

    def openapi(self) -> dict[str, Any]:
        """Make the OpenAPI document, with our parts."""
        return openapi(self)

    def build_middleware_stack(self) -> ASGIApp:
        """Leave out the framework's answer to unexpected errors, because `Observe` gives ours."""
        stack = super().build_middleware_stack()
        assert isinstance(stack, ServerErrorMiddleware), "the outermost of the framework's layers"
        return stack.app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        await self._outermost(scope, receive, send)


def _around(framework: ASGIApp, settings: Settings, held: HeldAnswers) -> ASGIApp:
    """Put our layers around the framework. The last one is the outermost."""
    direct = Direct(Admission(framework), routers=ROUTERS, answer=answer)
    bounded = RequestBounds(
        direct,
        body_bytes=settings.body_bytes,
        body_seconds=settings.body_seconds,
        header_bytes=settings.header_bytes,
        url_bytes=settings.url_bytes,
        bulk={batches.PATH: settings.bulk_body_bytes},
        bulk_requests=settings.bulk_requests,
        user_of=user_of,
    )
    app: ASGIApp = Paths(Strangers(bounded, public=PUBLIC, below=f"{docs.ASSETS}/"))
    if settings.cors_origins:
        app = CORSMiddleware(app, **cors.options(settings.cors_origins.split(",")))
    return Observe(app, hsts_seconds=settings.hsts_seconds, held=held)


def _lifespan(
    settings: Settings, queue: redis.Redis | None, tally: redis.asyncio.Redis | None, held: HeldAnswers
) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        configure_logging(settings, process="api")
        report_to_sentry(settings)
        start_tracing(settings, process="api")
        health = app.state.health = HealthState()
        serve_metrics(
            settings.metrics_host,
            settings.metrics_port_api,
            variable=variable("metrics_port_api"),
            health=lambda: _shown(health),
        )
        database = open_engine(settings)
        database.require_schema()
        database.moved_on = ask_to_stop
        runtime = open_runtime(settings, database, queue, tally)
        app.state.runtime = runtime
        await health.start(runtime)
        pulse = Pulse()
        heartbeat = Heartbeat(settings, "api", alive=pulse.is_felt)
        heartbeat.start()
        restore = _on_stop_signal(runtime.waiters.release, held.release)
        freeze_garbage_collector()
        log.info("api_ready")
        try:
            yield {
                "connection_bounds": ConnectionBounds.of(settings),
                "waiting_connections": {},
                "refusals": runtime.throttles.refusals,
            }
        finally:
            restore()
            await health.stop()
            await close_runtime(runtime)
            heartbeat.stop()
            pulse.stop()
            await asyncio.to_thread(stop_tracing)
            log.info("api_stopped")

    return lifespan


def _shown(health: HealthState) -> tuple[bool, bytes]:
    """Return whether transfers can be accepted, and the result of every check as JSON."""
    found = health.details()
    return found.status is not Health.UNAVAILABLE, found.model_dump_json().encode()


def _on_stop_signal(*callbacks: Callable[[], None]) -> Callable[[], None]:
    """Call back when the process is asked to stop, before the server waits for the running requests.

    Without this, clients that wait for a transfer or a held answer would be cut off instead of answered. Returns a
    function that undoes it.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    loop = asyncio.get_running_loop()
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: Any) -> None:
        for callback in callbacks:
            loop.call_soon_threadsafe(callback)
        server = previous[signal.Signals(number)]
        if callable(server):
            server(number, frame)

    for number in previous:
        signal.signal(number, handle)

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    return restore
