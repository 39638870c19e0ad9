"""The metrics of Dramatiq's own Prometheus middleware, under the same names, but on this process's port, in seconds.

Dramatiq's middleware would fork a server with a separate port, count in files in /tmp, and give milliseconds.
"""

import time
from typing import Any

from dramatiq import Broker
from dramatiq.middleware import Middleware
from prometheus_client import Counter, Gauge, Histogram

from core.telemetry.metrics.histograms import LIFETIME

_LABELS = ["queue_name", "actor_name"]
# These belong to the module and not to a broker, so that a process with several brokers has one count.
messages = Counter("dramatiq_messages_total", "Messages processed.", _LABELS)
message_errors = Counter("dramatiq_message_errors_total", "Messages whose work raised an exception.", _LABELS)
messages_in_progress = Gauge("dramatiq_messages_inprogress", "Messages in work.", _LABELS, multiprocess_mode="livesum")
message_duration = Histogram(
    "dramatiq_message_duration_seconds", "Time to process a message.", _LABELS, buckets=(*LIFETIME, 1800, 3600)
)


class QueueMetrics(Middleware):
    """Counts and times the messages of a broker's worker."""

    def __init__(self) -> None:
        self._started: dict[str, float] = {}

    def before_process_message(self, broker: Broker, message: Any) -> None:
        messages_in_progress.labels(*_labels(broker, message)).inc()
        self._started[message.message_id] = time.perf_counter()

    def after_process_message(
        self, broker: Broker, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        labels = _labels(broker, message)
        started = self._started.pop(message.message_id, None)
        if started is None:
            return  # its start was not counted, so its end is not counted either
        messages_in_progress.labels(*labels).dec()
        message_duration.labels(*labels).observe(time.perf_counter() - started)
        messages.labels(*labels).inc()
        if exception is not None:
            message_errors.labels(*labels).inc()

    def after_skip_message(self, broker: Broker, message: Any) -> None:
        self.after_process_message(broker, message)


def _labels(broker: Broker, message: Any) -> tuple[str, str]:
    """Return the names of queue and actor. A message can name any queue, but only messages of known actors get here."""
    queue = message.queue_name
    return (queue if queue in broker.get_declared_queues() else "unknown", message.actor_name)
