"""The metrics of all processes, for Prometheus. Each process has its own port. No label holds text from a client.

Each module of this package has the metrics of one subject. All of them are loaded here, so every process shows the
same metrics. `multiprocess_mode` defines how the values of several processes behind one port are combined.
"""

import os
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    REGISTRY,
    CollectorRegistry,
    disable_created_metrics,
    make_wsgi_app,
    start_http_server,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from core.settings import SettingsError
from core.telemetry.metrics.processes import NOW

# The creation time of a series is not used, and would be one more series for each counter and histogram.
disable_created_metrics()  # type: ignore[no-untyped-call]

Health = Callable[[], tuple[bool, bytes]]
"""Returns whether the service is available, and its state as JSON. It is called in another thread."""

MODULES = tuple(import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))


def serve_metrics(
    host: str, port: int, *, variable: str, sources: Sequence[Collector] = (), health: Health | None = None
) -> None:
    """Answer `GET /metrics` on a separate port, in a thread. Port 0 serves nothing.

    `sources` are read at each scrape, in addition to this process's own metrics. `health` is asked for each
    `GET /health`. Raises SettingsError, which names the setting's `variable`, if the port is not available.
    """
    if port == 0:
        return
    registry = _shared() if os.environ.get("PROMETHEUS_MULTIPROC_DIR") else REGISTRY
    for source in sources:
        registry.register(source)
    try:
        served = start_http_server(port, host, registry)
    except OSError as error:
        raise SettingsError(f"{variable}: cannot listen on {host}:{port} ({error.strerror})") from None
    if health is not None:
        served[0].set_app(_with_health(make_wsgi_app(registry), health))


def _with_health(metrics: WSGIApplication, health: Health) -> WSGIApplication:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/health":
            return metrics(environ, start_response)
        is_available, body = health()
        status = "200 OK" if is_available else "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json"), ("Cache-Control", "no-store")])
        return [body]

    return application


def _shared() -> CollectorRegistry:
    """Make a registry with the metrics of all processes that share the folder PROMETHEUS_MULTIPROC_DIR.

    If the variable was set before this module was imported, the processes count in files in that folder, and each
    process shows the counts of all. What a process reports about itself stays its own.
    """
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR, NOW):
        registry.register(collector)
    return registry
