"""The metrics of all processes, for Prometheus. Each process has its own port. No label holds text from a client."""

import os
import platform
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from core import SQLITE_VERSION
from core.settings import SettingsError

# The creation time of a series is not used, and would be one more series for each counter and histogram.
disable_created_metrics()  # type: ignore[no-untyped-call]

FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LIFETIME = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600)
SIZE = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class HistogramOfMany(Histogram):
    """A histogram that takes many equal observations at once. One by one, thousands would take milliseconds."""

    def observe_many(self, amount: float, count: int) -> None:
        """Observe the same amount `count` times."""
        # These are private fields of the library, used as in its own `observe`. Tests compare the two.
        self._sum.inc(amount * count)
        for bucket, bound in zip(self._buckets, self._upper_bounds, strict=True):
            if amount <= bound:
                bucket.inc(count)
                return


# --- every process -----------------------------------------------------------------------------------------------

# `multiprocess_mode` defines how the values of several processes behind one port are combined; see `_shared`.
heartbeat = Gauge("giro_heartbeat_timestamp_seconds", "Time of this process's last heartbeat.", multiprocess_mode="max")
unhandled_exceptions = Counter("giro_unhandled_exceptions_total", "Unexpected exceptions.")
lock_wait_duration = Histogram(
    "giro_lock_wait_duration_seconds", "Time that a writer waited for its turn.", buckets=FAST
)
commit_duration = Histogram("giro_commit_duration_seconds", "Time of the COMMIT alone.", buckets=FAST)
database_errors = Counter("giro_database_errors_total", "Database errors, by SQLite's name.", ["error"])


class _Now(Collector):
    """What a process reports about itself at each scrape: its versions and its clock."""

    def __init__(self) -> None:
        self._build = {"version": version("giro"), "python": platform.python_version(), "sqlite": SQLITE_VERSION}

    def describe(self) -> Iterable[Metric]:
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        yield InfoMetricFamily("giro_build", "Versions of Giro, Python and SQLite in this process.", value=self._build)
        yield GaugeMetricFamily("giro_clock_timestamp_seconds", "This process's current time.", value=time.time())


NOW = _Now()
REGISTRY.register(NOW)

# --- the API -----------------------------------------------------------------------------------------------------

http_request_duration = Histogram(
    "giro_http_request_duration_seconds",
    "Time to answer a request, including a wait that the client asked for (`Prefer: wait`).",
    ["method", "route", "status"],
    buckets=FAST,
)
transfers_accepted = Counter("giro_transfers_accepted_total", "Transfers accepted, without replays.")
transfers_refused = Counter("giro_transfers_refused_total", "Transfers refused by the intake, by error code.", ["code"])
accept_latency = Histogram(
    "giro_accept_latency_seconds",
    "Time from a transfer's arrival at the intake until its answer is known.",
    buckets=FAST,
)
accept_group_size = Histogram("giro_accept_group_size", "Requests written in one unit of work.", buckets=SIZE)
accept_commit_duration = Histogram(
    "giro_accept_duration_seconds", "Time from taking the lock to the end of the commit of a group.", buckets=FAST
)
intake_waiting = Gauge("giro_intake_waiting", "Requests that wait to be written.", multiprocess_mode="livesum")
login_failures = Counter("giro_login_failures_total", "Failed log-ins.")
throttled = Counter("giro_throttled_total", "Requests answered 429, by route and policy.", ["route", "policy"])
wakeups = Counter("giro_wakeups_total", "Wake-ups for the settlement worker, by outcome.", ["outcome"])

# --- settlement --------------------------------------------------------------------------------------------------

settlement_active = Gauge(
    "giro_settlement_active", "1 while this process settles, 0 while it stands by.", multiprocess_mode="livemax"
)
settlement_halted = Gauge(
    "giro_settlement_halted",
    "1 while settlement is halted because the ledger does not verify, else 0.",
    multiprocess_mode="livemax",
)
transfers_settled = Counter(
    "giro_transfers_settled_total", "Transfers that settlement ended, by status and reason.", ["status", "reason"]
)
settlement_batch_size = Histogram("giro_settlement_batch_size", "Transfers settled in one unit of work.", buckets=SIZE)
settlement_duration = Histogram(
    "giro_settlement_duration_seconds", "Time of one settlement, its commit included.", buckets=FAST
)
transfer_lifetime = HistogramOfMany(
    "giro_transfer_lifetime_seconds", "Time from a transfer's acceptance to its end.", buckets=LIFETIME
)

# --- jobs and the scheduler --------------------------------------------------------------------------------------

statements_made = Counter("giro_statements_made_total", "Statements made.")
statement_group_duration = Histogram(
    "giro_statement_group_duration_seconds", "Time to make the statements of one group of accounts.", buckets=LIFETIME
)
checkpoint_duration = Histogram(
    "giro_checkpoint_duration_seconds", "Time to truncate the write-ahead log, while other writers wait.", buckets=FAST
)
checkpoints_blocked = Counter("giro_checkpoints_blocked_total", "Checkpoints that a reader blocked.")
swept = Counter("giro_sweep_wakeups_total", "Wake-ups sent because a transfer was pending for too long.")

# --- the port ----------------------------------------------------------------------------------------------------


def serve_metrics(host: str, port: int, *, variable: str, sources: Sequence[Collector] = ()) -> None:
    """Answer `GET /metrics` on a separate port, in a thread. Port 0 serves nothing.

    `sources` are read at each scrape, in addition to this process's own metrics. Raises SettingsError, which names the
    setting's `variable`, if the port is not available.
    """
    if port == 0:
        return
    registry = _shared() if os.environ.get("PROMETHEUS_MULTIPROC_DIR") else REGISTRY
    for source in sources:
        registry.register(source)
    try:
        start_http_server(port, host, registry)
    except OSError as error:
        raise SettingsError(f"{variable}: cannot listen on {host}:{port} ({error.strerror})") from None


def _shared() -> CollectorRegistry:
    """Make a registry with the metrics of all processes that share the folder PROMETHEUS_MULTIPROC_DIR.

    If the variable was set before this module was imported, the processes count in files in that folder, and each
    process shows the counts of all. What a process reports about itself stays its own.
    """
    registry = CollectorRegistry()
    files: Collector = MultiProcessCollector(None)  # type: ignore[no-untyped-call]
    for collector in (files, PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR, NOW):
        registry.register(collector)
    return registry
