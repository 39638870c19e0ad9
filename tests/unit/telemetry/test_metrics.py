"""The metrics ports: their content, and the one-line message at the start if a port is unavailable."""

import os
import platform
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, start_http_server
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from core import DISTRIBUTION, SQLITE_VERSION
from core.settings import SettingsError
from core.storage.sqlite.engine import Database
from core.telemetry import metrics
from core.telemetry.metrics import serve_metrics
from core.telemetry.metrics.histograms import HistogramOfMany
from tests.flows.stack import free_port

Serve = Callable[..., str]

PORT_OF_API = "GIRO_METRICS_PORT_API"


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Serve metrics on a port for this test, and return the response."""
    started, registered = [], []
    monkeypatch.setattr(metrics, "start_http_server", lambda *where: started.append(start_http_server(*where)))

    def answer(*sources: Collector) -> str:
        port = free_port()
        registered.extend(sources)
        serve_metrics("127.0.0.1", port, variable=PORT_OF_API, sources=sources)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
            text: str = response.read().decode()
            return text

    yield answer
    for server, thread in started:
        server.shutdown()
        server.server_close()
        thread.join()
    for source in registered:
        REGISTRY.unregister(source)


def samples(text: str) -> dict[str, float]:
    """The served values by name; of series with labels, one."""
    return {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}


class Source(Collector):
    """A source that is read at each scrape."""

    def __init__(self) -> None:
        self.reads = 0

    def describe(self) -> Iterable[Metric]:
        return [GaugeMetricFamily("a_source", "Read at each scrape.")]

    def collect(self) -> Iterable[Metric]:
        self.reads += 1
        return [GaugeMetricFamily("a_source", "Read at each scrape.", value=7)]


def test_many_equal_observations_equal_the_same_number_of_single_ones() -> None:
    registry = CollectorRegistry()
    one, many = (HistogramOfMany(f"test_{name}", "Only here.", buckets=(1, 2), registry=registry) for name in "ab")
    for amount, count in ((0.5, 3), (1, 2), (1.5, 1), (9, 4)):
        many.observe_many(amount, count)
        for _ in range(count):
            one.observe(amount)

    def samples(histogram: HistogramOfMany) -> list[tuple[str, dict[str, str], float]]:
        (family,) = histogram.collect()
        return [(sample.name[6:], sample.labels, sample.value) for sample in family.samples]

    assert samples(many) == samples(one)
    assert [value for _, _, value in samples(many)] == [5, 6, 10, 10, 3 * 0.5 + 2 + 1.5 + 36]


def test_metrics_are_served_at_the_address_of_the_setting(serve: Serve) -> None:
    served = samples(serve())
    assert {"giro_heartbeat_timestamp_seconds", "giro_unhandled_exceptions_total", "python_info"} <= served.keys()
    assert {"process_open_fds", "giro_commit_duration_seconds_bucket"} <= served.keys()


def test_sources_are_read_once_at_each_scrape_and_shown_with_the_counters(serve: Serve) -> None:
    source = Source()
    served = samples(serve(source))
    assert (served["a_source"], source.reads) == (7, 1)
    assert "giro_transfers_accepted_total" in served


def test_no_series_reports_the_creation_of_another(serve: Serve) -> None:
    assert not [name for name in samples(serve()) if name.endswith("_created")]


def test_a_process_reports_its_version(database: Database) -> None:
    sqlite = database.library().version
    assert sqlite == SQLITE_VERSION
    built = {"version": version(DISTRIBUTION), "python": platform.python_version(), "sqlite": sqlite}
    assert REGISTRY.get_sample_value("giro_build_info", built) == 1


def test_a_process_shows_its_own_clock_at_each_scrape() -> None:
    before = time.time()
    first, second = (REGISTRY.get_sample_value("giro_clock_timestamp_seconds") or 0.0 for _ in range(2))
    assert before <= first <= second <= time.time()


def test_port_zero_serves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "start_http_server", lambda *_where: pytest.fail("nothing may be served"))
    serve_metrics("127.0.0.1", 0, variable=PORT_OF_API)


def test_a_port_in_use_is_named_with_its_variable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"^GIRO_METRICS_PORT_JOBS: cannot listen on 127\.0\.0\.1:{port} "):
            serve_metrics("127.0.0.1", port, variable="GIRO_METRICS_PORT_JOBS")


# --- several processes behind one port ---------------------------------------------------------------------------

COUNTS = """
from core.telemetry.metrics import intake, processes
intake.transfers_accepted.inc(3)
intake.transfers_refused.labels("unavailable").inc()
intake.accept_latency.observe(0.002)
processes.heartbeat.set(5)
intake.intake_waiting.set(2)
"""
COUNTS_AND_SERVES = """
import sys, urllib.request
from core.telemetry.metrics import intake, processes, serve_metrics
intake.transfers_accepted.inc(4)
intake.accept_latency.observe(0.002)
processes.heartbeat.set(4)
intake.intake_waiting.set(1)
serve_metrics("127.0.0.1", int(sys.argv[1]), variable="GIRO_METRICS_PORT_API")
print(urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/metrics", timeout=10).read().decode())
"""


@pytest.mark.processes
def test_processes_that_share_a_folder_are_counted_together(tmp_path: Path) -> None:
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}

    def run(script: str) -> str:
        command = [sys.executable, "-c", script, str(free_port())]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=60).stdout

    run(COUNTS)
    served = samples(run(COUNTS_AND_SERVES))
    assert (served["giro_transfers_accepted_total"], served["giro_transfers_refused_total"]) == (7, 1)
    assert served["giro_accept_latency_seconds_count"] == 2
    assert served["giro_heartbeat_timestamp_seconds"] == 5, "the latest value"
    assert served["giro_intake_waiting"] == 3
    assert served["giro_build_info"] == 1
    assert served["giro_clock_timestamp_seconds"] == pytest.approx(time.time(), abs=60)
    assert {"process_open_fds", "python_info"} <= served.keys()
