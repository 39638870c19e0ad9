"""Logs, metrics, traces and error reports."""

from typing import Literal

from pydantic import Field, SecretStr

from core.settings.groups.base import SettingsGroup
from core.settings.types import Port


class TelemetrySettings(SettingsGroup):
    """How a service reports about itself."""

    title = "Logs, metrics and traces"

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto",
        description="`json`: one object per line. `console`: text for people. `auto`: `console` on a terminal, "
        "otherwise `json`.",
    )
    metrics_host: str = Field(
        "127.0.0.1", description="Address of the metrics ports. Do not expose it to a public network."
    )
    metrics_port_api: Port = Field(9101, description="Metrics port of the API. `0`: no metrics.")
    metrics_port_settlement: Port = Field(9102, description="Metrics port of the settlement worker. `0`: no metrics.")
    metrics_port_jobs: Port = Field(9103, description="Metrics port of the jobs worker. `0`: no metrics.")
    metrics_port_scheduler: Port = Field(9104, description="Metrics port of the scheduler. `0`: no metrics.")
    sentry_dsn: SecretStr | None = Field(
        None,
        validation_alias="SENTRY_DSN",
        description="Sentry project that unhandled exceptions are reported to. Needs the package `sentry-sdk`.",
    )
    traces: bool = Field(
        False,
        description="Export traces with OpenTelemetry, over OTLP and HTTP. The standard variables `OTEL_*` of the "
        "environment set the exporter, the sampler and the name of the service. Needs the packages `opentelemetry-sdk` "
        "and `opentelemetry-exporter-otlp-proto-http`.",
    )
