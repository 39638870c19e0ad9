"""Metrics of the intake, which accepts and refuses transfers."""

from prometheus_client import Counter, Gauge, Histogram

from core.telemetry.metrics.histograms import FAST, SIZE

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
