"""How the API listens, and how much of a connection or a request it accepts."""

from pydantic import Field

from core.settings.groups.base import SettingsGroup
from core.settings.types import Origins, Port, Proxies


class ServerSettings(SettingsGroup):
    """The address of the API, its processes, and the bounds of connections and requests."""

    title = "API server"

    host: str = Field("127.0.0.1", description="Address that the API listens on.")
    port: Port = Field(8000, description="Port that the API listens on. With `0`, `giro up` picks a free port.")
    operator_host: str = Field("127.0.0.1", description="Address that `GIRO_OPERATOR_PORT` listens on.")
    operator_port: Port = Field(
        0,
        description="A second port, for operators, where the API also listens. Then every call that needs an "
        "operator, the log-in of operators and the details of `/health` exist only there. `0`: operators use the "
        "port of everybody.",
    )
    api_processes: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that serve the API on the same ports. A machine with many cores can use several.",
    )
    trusted_proxies: Proxies = Field(
        "",
        description="Proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are trusted: addresses or networks, "
        "separated by commas. `127.0.0.1` for a proxy on this machine. By default no proxy is trusted.",
    )
    cors_origins: Origins = Field(
        "",
        description="Origins whose pages may call the API from a browser: exact origins, separated by commas, as in "
        "`https://bank.example.com`.",
    )
    hsts_seconds: int = Field(
        31_536_000,
        ge=0,
        description="Time for which a browser that used TLS must not use plain HTTP (`Strict-Transport-Security`). "
        "The header is sent only if a trusted proxy reports `X-Forwarded-Proto: https`. `0`: the header is not sent.",
    )
    docs: bool = Field(True, description="Serve `/docs` and `/openapi.json`.")
    connections: int = Field(
        2000,
        ge=1,
        description="Connections of one API process. One more replaces the connection that has waited longest without "
        "a whole request. If all have one, the new connection is answered 503. The number is lower if the process "
        "may not open that many files.",
    )
    url_bytes: int = Field(
        8192, ge=1024, description="Longest path and query of a request. A longer one is answered 414."
    )
    header_bytes: int = Field(16_384, ge=1024, description="Largest sum of the header lines of a request.")
    body_bytes: int = Field(65_536, ge=1024, description="Largest body of a request, except a batch.")
    header_seconds: float = Field(
        10,
        gt=0,
        description="Time in which the head of a request must arrive, counted from the connection or the first byte.",
    )
    body_seconds: float = Field(10, gt=0, description="Time in which the body of a request must arrive.")
    send_seconds: float = Field(
        30,
        gt=0,
        description="Time in which a client must read 16 KiB of its answer, or the rest of it. A slower client is "
        "disconnected.",
    )
    idle_seconds: float = Field(
        20,
        gt=0,
        description="Time that a connection stays open between requests. A proxy in front must close its connections "
        "earlier, otherwise requests are lost.",
    )
    shutdown_seconds: float = Field(
        5, gt=0, le=60, description="Time that running requests are given when the API stops."
    )
