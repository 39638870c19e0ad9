"""Metrics of statements."""

from prometheus_client import Counter, Histogram

from core.telemetry.metrics.histograms import LIFETIME

statements_made = Counter("giro_statements_made_total", "Statements made.")
statement_group_duration = Histogram(
    "giro_statement_group_duration_seconds", "Time to make the statements of one group of accounts.", buckets=LIFETIME
)
