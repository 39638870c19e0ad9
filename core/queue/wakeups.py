"""Wake-ups of the settlement worker, sent from their own thread."""

import threading

import redis
from dramatiq.brokers.redis import RedisBroker

from core.failpoints import hit
from core.queue.broker import probe, queue_away
from core.queue.messages import SETTLE, SETTLEMENT_QUEUE, message
from core.telemetry.logging import get_logger
from core.telemetry.metrics import wakeups as metrics

log = get_logger(__name__)


WAKE_KEY = "giro:woken"
WAKE_MS = 2000
"""A wake-up that no worker has taken counts as lost after this time, and another may be sent."""


def send_wakeup(broker: RedisBroker) -> bool:
    """Wake the settlement worker, unless a wake-up is already on its way. Returns whether one was sent.

    Raises redis.RedisError.
    """
    hit("wakeup.before_send")
    if not broker.client.set(WAKE_KEY, b"1", nx=True, px=WAKE_MS):
        if 0 <= broker.client.pttl(WAKE_KEY) <= WAKE_MS:
            return False
        # This key is not ours. A key that does not expire would block every wake-up, including the sweep's.
        broker.client.set(WAKE_KEY, b"1", px=WAKE_MS)
    hit("wakeup.between")
    broker.enqueue(message(SETTLE, SETTLEMENT_QUEUE))
    hit("wakeup.after_send")
    return True


def take_wakeup(broker: RedisBroker) -> None:
    """Allow the next wake-up. Call this before the first read, so that no transfer accepted after it is missed."""
    try:
        broker.client.delete(WAKE_KEY)
    except redis.RedisError as error:
        queue_away.warn(error=error)  # the key expires by itself, and the lookout covers the time until then


class Waker(threading.Thread):
    """Sends wake-ups in its own thread, so that a slow or dead queue does not delay the callers of `wake`.

    All calls between two sends become one wake-up.
    """

    def __init__(self, broker: RedisBroker) -> None:
        super().__init__(name="waker", daemon=True)
        self._broker = broker
        self._called = threading.Event()
        self._asked = False
        self._stopping = False
        for outcome in ("sent", "coalesced", "failed"):
            metrics.wakeups.labels(outcome)  # starts at 0, so that the first increase is visible

    def wake(self) -> None:
        """Ask for a wake-up. Returns immediately."""
        self._asked = True
        self._called.set()

    def probe(self) -> None:
        """Check that the queue can be used. Raises redis.RedisError if it cannot."""
        probe(self._broker)

    def stop(self) -> None:
        """Send the wake-up that was asked for, if any, and end."""
        self._stopping = True
        self._called.set()
        self.join(timeout=5)

    def run(self) -> None:
        """Send until stopped."""
        while True:
            self._called.wait()
            self._called.clear()
            if self._asked:
                self._asked = False  # before the send, which may miss what is asked for meanwhile
                self._send()
            if self._stopping and not self._asked:
                return

    def _send(self) -> None:
        try:
            outcome = "sent" if send_wakeup(self._broker) else "coalesced"
        except redis.RedisError as error:
            outcome = "failed"
            queue_away.warn(error=error)
        except Exception:  # without this thread every transfer would wait for the sweep
            outcome = "failed"
            log.exception("wakeup_failed")
        metrics.wakeups.labels(outcome).inc()
