"""The queue: a hint to look at the database, and nothing that has to be believed.

A wake-up says no more than "there is something to settle". Losing, repeating, delaying or forging one changes
nothing: the worker reads what is pending, and the sweep wakes it where a wake-up was lost.
"""

import os
import threading
import time
from typing import Any

# Dramatiq reads these when it is imported. A consumer that lost its server tries again soon, and takes many
# messages at once: wake-ups are cheap to hold, and sleeping between them is not.
os.environ.setdefault("dramatiq_restart_delay", "500")
os.environ.setdefault("dramatiq_queue_prefetch", "100")

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer
from dramatiq.errors import ConnectionClosed
from dramatiq.middleware import Callbacks, Middleware, ShutdownNotifications
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from core import metrics
from core.failpoints import hit
from core.logging import get_logger

log = get_logger(__name__)

SETTLEMENT_QUEUE = "settlement"
JOBS_QUEUE = "jobs"
STATEMENTS_QUEUE = "statements"

SETTLE = "settle"
"""Name of the actor that settles what is pending."""
BACK_UP = "back_up"
"""Makes a backup if one is due."""
CLOSE_MONTHS = "close_months"
MAKE_GROUP = "make_statement_group"
"""Takes the row id of a group."""
MAKE_STATEMENT = "make_statement"
"""Takes the row id of a statement that was asked for."""

WAKE_KEY = "giro:woken"
WAKE_MS = 2000
"""A wake-up that nobody took up counts as lost after this time, and another may be sent."""

HEARTBEAT_TIMEOUT_MS = 5_000
"""A worker that was killed is forgotten, and its messages handed out again, after this time."""
MAINTENANCE_PER_MILLION = 100_000
"""Share of queue commands that look for such workers; the default finds them after minutes."""

CLEAR_UP_SECONDS = 5.0
"""How often an idle consumer looks for what it was handed and what is no message."""


def connect(url: str) -> redis.Redis:
    """Make a client that gives up soon: nothing in Giro waits for the queue."""
    return redis.Redis.from_url(
        url,
        socket_timeout=2,
        socket_connect_timeout=1,
        retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), 2),
        max_connections=16,
    )


class Consumer(_RedisConsumer):
    """Takes messages for what they are in, not for what they say, and drops what is none of this queue's.

    Dramatiq believes its messages. One that cannot be read would be kept for ever, one that names another queue or
    has options of its own would end the thread that works it off, and one from the future would be held until then.
    """

    _clear_up_at = 0.0

    def __next__(self) -> "dramatiq.MessageProxy | None":
        """Take the next message, if there is one."""
        try:
            return self._take()
        except redis.ConnectionError as error:
            raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]

    def _take(self) -> "dramatiq.MessageProxy | None":
        try:
            proxy: dramatiq.MessageProxy | None = super().__next__()  # type: ignore[no-untyped-call]
        except (ConnectionClosed, redis.RedisError):
            raise
        except Exception as error:  # whatever comes of bytes that are no message
            log.warning("message_dropped", queue=self.queue_name, error=f"{type(error).__name__}: {error}")
            return None
        if proxy is None:
            self._clear_up()
            return None
        if self._is_for_here(proxy):
            return dramatiq.MessageProxy(self._as_ours(proxy))
        log.warning("message_dropped", queue=self.queue_name, error="it is for no work of this queue")
        self.queued_message_ids.discard(proxy.message_id)
        return None

    def _is_for_here(self, said: "dramatiq.MessageProxy") -> bool:
        """Say whether a message has the types of one, and asks for work that is done on this queue."""
        types = ((said.message_id, str), (said.actor_name, str), (said.args, list | tuple), (said.kwargs, dict))
        if not all(isinstance(value, kind) for value, kind in types) or not isinstance(said.options, dict):
            return False
        actor = self.broker.actors.get(said.actor_name)
        delayed = self.queue_name.endswith(".DQ")  # Giro sends none there
        named = isinstance(said.options.get("redis_message_id"), str)
        return named and not delayed and actor is not None and actor.queue_name == self.queue_name

    def _as_ours(self, said: "dramatiq.MessageProxy") -> "dramatiq.Message[Any]":
        return dramatiq.Message(
            queue_name=self.queue_name,
            actor_name=said.actor_name,
            args=tuple(said.args),
            kwargs=said.kwargs,
            options={"redis_message_id": said.options["redis_message_id"]},
            message_id=said.message_id,
        )

    def _clear_up(self) -> None:
        """Acknowledge what was dropped. A queue that keeps it never counts as idle, and the scheduler waits for that.

        By its place and not by its name, which cannot be read either: what was handed to this consumer while nothing
        is in work was dropped.
        """
        if self.outstanding_message_count or time.monotonic() < self._clear_up_at:
            return
        self._clear_up_at = time.monotonic() + CLEAR_UP_SECONDS
        broker = self.broker
        for name in broker.client.smembers(f"{broker.namespace}:__acks__.{broker.broker_id}.{self.queue_name}"):
            broker.do_ack(self.queue_name, name)


class Broker(RedisBroker):
    """Dramatiq's broker, with consumers of ours."""

    consumer_class = Consumer


def make_broker(client: redis.Redis, middleware: list[Middleware] | None = None) -> RedisBroker:
    """Make the broker and declare it Dramatiq's own.

    No retries, no age or time limit: what is to be done stands in the database, an exception in the middle of a
    commit helps nobody, and a message is a hint that another will repeat.
    """
    broker = Broker(  # type: ignore[no-untyped-call]
        client=client,
        middleware=[Callbacks(), ShutdownNotifications(), *(middleware or [])],
        heartbeat_timeout=HEARTBEAT_TIMEOUT_MS,
        maintenance_chance=MAINTENANCE_PER_MILLION,
    )
    dramatiq.set_broker(broker)
    return broker


def message(actor: str, queue: str, *arguments: int) -> "dramatiq.Message[Any]":
    """Write a message for an actor, without importing it."""
    return dramatiq.Message(queue_name=queue, actor_name=actor, args=arguments, kwargs={}, options={})


def is_idle(broker: RedisBroker, queue: str) -> bool:
    """Say whether a queue has no message, waiting or in work; raises redis.RedisError."""
    return count_messages(broker, queue) == 0


def count_messages(broker: RedisBroker, queue: str) -> int:
    """Count a queue's messages, waiting or in work; raises redis.RedisError.

    Dramatiq keeps a message in the hash beside its queue's list until it is acknowledged.
    """
    count: int = broker.client.hlen(f"{broker.namespace}:{queue}.msgs")
    return count


def send_wakeup(broker: RedisBroker) -> bool:
    """Wake the settlement worker, unless one wake-up is already on its way; raises redis.RedisError."""
    hit("wakeup.before_send")
    if not broker.client.set(WAKE_KEY, b"1", nx=True, px=WAKE_MS):
        if 0 <= broker.client.pttl(WAKE_KEY) <= WAKE_MS:
            return False
        # None of ours: a key that does not run out would hold every wake-up back, the sweep's too.
        broker.client.set(WAKE_KEY, b"1", px=WAKE_MS)
    hit("wakeup.between")
    broker.enqueue(message(SETTLE, SETTLEMENT_QUEUE))
    hit("wakeup.after_send")
    return True


def take_wakeup(broker: RedisBroker) -> None:
    """Let the next wake-up through. To be called before the first read, so that what comes after it is not missed."""
    try:
        broker.client.delete(WAKE_KEY)
    except redis.RedisError as error:
        # The key runs out by itself, and the sweep covers the time until then.
        log.warning("queue_unreachable", error=str(error))


class Waker(threading.Thread):
    """Sends wake-ups in a thread of its own, so that a slow or dead queue delays nobody who asks for one.

    Any number of requests between two sends become one wake-up.
    """

    def __init__(self, broker: RedisBroker) -> None:
        super().__init__(name="waker", daemon=True)
        self._broker = broker
        self._asked = threading.Event()
        self._stopping = False
        for outcome in ("sent", "coalesced", "failed"):
            metrics.wakeups.labels(outcome)  # at 0 from the start, so that the first one is seen to rise

    def wake(self) -> None:
        """Ask for a wake-up; returns at once."""
        self._asked.set()

    def ping(self) -> None:
        """Ask the queue's server whether it is there; raises redis.RedisError if it is not."""
        self._broker.client.ping()

    def stop(self) -> None:
        """Send what was asked for and end."""
        self._stopping = True
        self._asked.set()
        self.join(timeout=5)

    def run(self) -> None:
        """Send until stopped."""
        while True:
            self._asked.wait()
            self._asked.clear()
            self._send()
            if self._stopping and not self._asked.is_set():
                return

    def _send(self) -> None:
        try:
            outcome = "sent" if send_wakeup(self._broker) else "coalesced"
        except redis.RedisError as error:
            outcome = "failed"
            log.warning("wakeup_failed", error=str(error))
        except Exception:  # whatever it is: without this thread, every transfer would wait for the sweep
            outcome = "failed"
            log.exception("wakeup_failed")
        metrics.wakeups.labels(outcome).inc()
