"""Metrics of the database, in every process that uses it."""

from prometheus_client import Counter, Histogram

from core.telemetry.metrics.histograms import FAST

lock_wait_duration = Histogram(
    "giro_lock_wait_duration_seconds", "Time that a writer waited for its turn.", buckets=FAST
)
commit_duration = Histogram("giro_commit_duration_seconds", "Time of the COMMIT alone.", buckets=FAST)
database_errors = Counter("giro_database_errors_total", "Database errors, by SQLite's name.", ["error"])
checkpoint_duration = Histogram(
    "giro_checkpoint_duration_seconds", "Time to truncate the write-ahead log, while other writers wait.", buckets=FAST
)
checkpoints_blocked = Counter("giro_checkpoints_blocked_total", "Checkpoints that a reader blocked.")
