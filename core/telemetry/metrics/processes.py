"""Metrics of every process: its heartbeat, its unexpected exceptions, its versions and its clock."""

import platform
import time
from collections.abc import Iterable

from prometheus_client import REGISTRY, Counter, Gauge
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from core import SQLITE_VERSION, VERSION

heartbeat = Gauge("giro_heartbeat_timestamp_seconds", "Time of this process's last heartbeat.", multiprocess_mode="max")
unhandled_exceptions = Counter("giro_unhandled_exceptions_total", "Unexpected exceptions.")


class _Now(Collector):
    """What a process reports about itself at each scrape: its versions and its clock."""

    def __init__(self) -> None:
        self._build = {"version": VERSION, "python": platform.python_version(), "sqlite": SQLITE_VERSION}

    def describe(self) -> Iterable[Metric]:
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        yield InfoMetricFamily("giro_build", "Versions of Giro, Python and SQLite in this process.", value=self._build)
        yield GaugeMetricFamily("giro_clock_timestamp_seconds", "This process's current time.", value=time.time())


NOW = _Now()
REGISTRY.register(NOW)
