"""The metrics ports: served on request, and a port that cannot be had stops the start with one line."""

import socket
import urllib.request

import pytest
from prometheus_client import start_http_server

from core import metrics
from core.metrics import serve_metrics
from core.settings import SettingsError


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port: int = held.getsockname()[1]
        return port


def test_metrics_are_served_where_the_setting_says(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr(metrics, "start_http_server", lambda *where: started.append(start_http_server(*where)))
    port = free_port()
    serve_metrics("127.0.0.1", port, variable="GIRO_METRICS_PORT_API")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    finally:
        (server, thread) = started[0]
        server.shutdown()
        server.server_close()
        thread.join()
    assert "giro_transfers_settled_total" in text


def test_port_zero_serves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "start_http_server", lambda *_where: pytest.fail("nothing is to be served"))
    serve_metrics("127.0.0.1", 0, variable="GIRO_METRICS_PORT_API")


def test_a_port_that_is_taken_is_named_with_its_variable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"^GIRO_METRICS_PORT_JOBS: cannot listen on 127\.0\.0\.1:{port} "):
            serve_metrics("127.0.0.1", port, variable="GIRO_METRICS_PORT_JOBS")
