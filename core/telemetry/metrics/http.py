"""Metrics of requests to the API."""

from prometheus_client import Counter, Gauge, Histogram

from core.telemetry.metrics.histograms import FAST

http_request_duration = Histogram(
    "giro_http_request_duration_seconds",
    "Time to answer a request, including a wait that the client asked for (`Prefer: wait`).",
    ["method", "route", "status"],
    buckets=FAST,
)
throttled = Counter("giro_throttled_total", "Requests answered 429, by route and policy.", ["route", "policy"])
answers_held = Gauge("giro_answers_held", "Refusals whose answer is held for a moment.", multiprocess_mode="livesum")
login_failures = Counter("giro_login_failures_total", "Failed log-ins.")
