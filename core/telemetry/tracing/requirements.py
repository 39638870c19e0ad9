"""What the export of traces needs: the optional packages, and a protocol that they speak."""

from collections.abc import Mapping
from importlib.util import find_spec

from core.settings import SettingsError

MODULES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
HTTP = "http/protobuf"


def check_requirements(environment: Mapping[str, str]) -> None:
    """Raise SettingsError if a package is missing, or the environment asks for another protocol."""
    if not all(map(_is_installed, MODULES)):
        raise SettingsError(
            "GIRO_TRACES is set, but OpenTelemetry is not installed: "
            "`pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http`"
        )
    for name in PROTOCOLS:
        if (protocol := environment.get(name) or HTTP) != HTTP:
            raise SettingsError(f"{name}: '{protocol}' is not supported; use {HTTP}")


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package around it is installed
        return False
