"""Logs on standard error, in the same form from every process and library: JSON lines, or text on a terminal."""

import logging
import sys
from typing import Any

import structlog

from core import failpoints
from core.settings import SettingsError
from core.settings.groups.telemetry import TelemetrySettings
from core.telemetry.tracing.ids import in_hex, trace_id_of

Logger = structlog.stdlib.BoundLogger


def get_logger(name: str) -> Logger:
    """Get the logger of a module; `name` is its dotted path."""
    logger: Logger = structlog.stdlib.get_logger(name)
    return logger


def configure_logging(settings: TelemetrySettings, *, process: str) -> None:
    """Send everything that this process logs, libraries included, through one formatter.

    `process` is written to each line: api, settlement, jobs, scheduler, supervisor or cli.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _named(process),
        *([_with_trace_id] if settings.traces else []),
    ]
    last: list[Any]
    if settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty()):
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    else:
        # The default formatter would print the local variables of each frame, such as passwords and card numbers.
        last = [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for noisy in ("aiosqlite", "dramatiq", "uvicorn", "alembic", "httpx2", "httpcore2", "asyncio", "urllib3"):
        # Libraries log from warning on: a line for every fetched message says nothing about money.
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    for bound in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(bound).handlers[:] = []
        logging.getLogger(bound).propagate = True
    if failpoints.armed():
        get_logger(__name__).critical("failpoints_on", failpoints=failpoints.armed())


def report_to_sentry(settings: TelemetrySettings) -> None:
    """Report unhandled exceptions and logged errors to `SENTRY_DSN`, if it is set.

    Raises SettingsError if it is set and sentry-sdk is not installed.
    """
    if settings.sentry_dsn is None:
        return
    try:
        import sentry_sdk
        from sentry_sdk.integrations.logging import ignore_logger
    except ImportError:
        raise SettingsError("SENTRY_DSN is set, but sentry-sdk is not installed: `pip install sentry-sdk`") from None
    ignore_logger("opentelemetry.*")  # an unavailable collector is not an error of Giro
    sentry_sdk.init(
        dsn=settings.sentry_dsn.get_secret_value(),
        traces_sample_rate=0,
        include_local_variables=False,  # some local variables are passwords
        max_request_body_size="never",
        before_send=without_what_was_sent,
    )


def without_what_was_sent(event: Any, _hint: Any) -> Any:
    """Remove everything of a request but its method. Clients choose the path, the query and the headers."""
    event.pop("user", None)
    if "request" in event:
        event["request"] = {"method": event["request"].get("method")}
    if event.get("transaction_info", {}).get("source") == "url":
        event.pop("transaction", None)
    return event


def _with_trace_id(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    """Add the trace id of a request to the lines that have its request id."""
    if isinstance(request_id := event.get("request_id"), str):
        event.setdefault("trace_id", in_hex(trace_id_of(request_id)))
    return event


def _named(process: str) -> Any:
    def add(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        event["process"] = process
        return event

    return add
