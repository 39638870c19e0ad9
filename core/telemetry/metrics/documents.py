"""Metrics of documents: statements as CSV, PDF and camt.053."""

from prometheus_client import Counter, Histogram

from core.telemetry.metrics.histograms import LIFETIME

document_duration = Histogram(
    "giro_document_duration_seconds",
    "Time to draw a document, by its maker: `api` while the client waits, `job` for a large one.",
    ["maker"],
    buckets=LIFETIME,
)
for _maker in ("api", "job"):
    document_duration.labels(_maker)  # at 0 from the start, so that the first document is visible
documents_refused = Counter("giro_documents_refused_total", "Documents refused, by error code.", ["code"])
