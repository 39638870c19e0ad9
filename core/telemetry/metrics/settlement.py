"""Metrics of settlement."""

from prometheus_client import Counter, Gauge, Histogram

from core.telemetry.metrics.histograms import FAST, LIFETIME, SIZE, HistogramOfMany

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
