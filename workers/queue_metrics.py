"""What Dramatiq's own Prometheus middleware counts, under the same names, on this process's port and in seconds.

That one would fork a server for a port of its own, count in files below /tmp, and give milliseconds.
"""

import time
from typing import Any

from dramatiq import Broker
from dramatiq.middleware import Middleware
from prometheus_client import Counter, Gauge, Histogram

from core.metrics import LIFETIME

_LABELS = ["queue_name", "actor_name"]
# By module, and not by broker: a process with several of them has one count.
messages = Counter("dramatiq_messages_total", "Messages worked off.", _LABELS)
message_errors = Counter("dramatiq_message_errors_total", "Messages whose work raised.", _LABELS)
messages_in_progress = Gauge("dramatiq_messages_inprogress", "Messages in work.", _LABELS, multiprocess_mode="livesum")
message_duration = Histogram(
    "dramatiq_message_duration_seconds", "Time to work a message off.", _LABELS, buckets=(*LIFETIME, 1800, 3600)
)


class QueueMetrics(Middleware):
    """Counts and times the messages of one broker's worker."""

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
            return  # its beginning was not seen, so neither is its end
        messages_in_progress.labels(*labels).dec()
        message_duration.labels(*labels).observe(time.perf_counter() - started)
        messages.labels(*labels).inc()
        if exception is not None:
            message_errors.labels(*labels).inc()

    def after_skip_message(self, broker: Broker, message: Any) -> None:
        self.after_process_message(broker, message)


def _labels(broker: Broker, message: Any) -> tuple[str, str]:
    """The names of queue and actor. A message can name any queue; one with an actor that is not has not come here."""
    queue = message.queue_name
    return (queue if queue in broker.get_declared_queues() else "unknown", message.actor_name)
