"""The addresses that the processes listen on, checked before anything is started."""

import errno
import socket
from collections.abc import Sequence

from core.processes.exit_statuses import CANNOT_START, StartRefused
from core.settings import Settings, variable


def api_url(settings: Settings) -> str:
    """Return the URL of the API for this machine."""
    return _url(settings.host, settings.port)


def metrics_url(settings: Settings) -> str:
    """Return the URL of the API's metrics port, as seen from this machine."""
    return _url(settings.metrics_host, settings.metrics_port_api)


def operator_url(settings: Settings) -> str | None:
    """Return the URL of the operators' own port for this machine; None if they have none."""
    return _url(settings.operator_host, settings.operator_port) if settings.operator_port else None


def published_url(published: str) -> str:
    """Return the URL of a port that a container engine publishes, given as `address:port` or as a port."""
    host, _, port = published.rpartition(":")
    return _url(host.strip("[]") or "127.0.0.1", int(port)) if port.isdecimal() else published


def _url(host: str, port: int) -> str:
    # Not every platform can connect to a wildcard address.
    # nosemgrep: listen-addresses-are-settings - compared only
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # nosec B104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def check_operator_port(settings: Settings) -> None:
    """Check that the API will be able to listen on the operators' port, if they have one. Raises StartRefused."""
    if settings.operator_port:
        names = (variable("operator_host"), variable("operator_port"))
        bindable_port(settings.operator_host, settings.operator_port, names=names)


def check_metrics_ports(settings: Settings, names: Sequence[str]) -> None:
    """Check that these processes will be able to listen on their metrics ports. Raises StartRefused."""
    for name in names:
        setting = f"metrics_port_{name}"
        port: int = getattr(settings, setting)
        if port != 0:
            bindable_port(settings.metrics_host, port, names=(variable("metrics_host"), variable(setting)))


def bindable_port(host: str, port: int, *, names: tuple[str, str] = ("GIRO_HOST", "GIRO_PORT")) -> int:
    """Check that a process will be able to listen on a port, and return the port: a free one if `port` is 0.

    Raises StartRefused, which names the setting: one of `names`, the settings of host and port. If another program
    takes the port after the check, the process dies, and that is reported less clearly.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise StartRefused(
            CANNOT_START, f"{names[0]}: {host} is not an address of this machine ({error.strerror})"
        ) from None
    for family, kind, protocol, _, address in addresses:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((address[0], port, *address[2:]))
                port = probe.getsockname()[1]
        except OSError as error:
            name = names[error.errno in (errno.EADDRINUSE, errno.EACCES)]
            message = f"{name}: cannot listen on {host}:{port} ({error.strerror})"
            raise StartRefused(CANNOT_START, message) from None
    return port
