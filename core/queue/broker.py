"""The queue. A message is only a hint to look at the database; its content is never trusted.

A wake-up only means that something may have to be settled. Losing, repeating, delaying or forging one changes
nothing: the worker reads the pending transfers from the database, and looks there itself if a wake-up was lost.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import DramatiqError
from dramatiq.middleware import Callbacks, Middleware, ShutdownNotifications
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from core.queue.messages import SETTLEMENT_QUEUE
from core.telemetry.logging import get_logger
from core.telemetry.seldom import Seldom

log = get_logger(__name__)

queue_away = Seldom(log, "queue_away")
"""The line about a queue that cannot be used, for everything in this process that uses it."""

HEARTBEAT_TIMEOUT_MS = 5_000
"""After this time without a heartbeat a worker counts as dead, and its messages are delivered again."""
MAINTENANCE_PER_MILLION = 100_000
"""Share of queue commands that look for dead workers. With the default it takes minutes to find them."""

ID = "redis_message_id"
"""The option of a message with its id in the queue, which Dramatiq acknowledges it by."""

CLEAR_UP_SECONDS = 5.0
"""How often an idle consumer acknowledges messages that it has dropped."""

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 5.0
"""Time between two tries of a consumer that keeps failing. It doubles with each failure."""
PAUSE_STEP_SECONDS = 0.1
"""A consumer that pauses looks this often whether it shall stop."""
FAILURES_AT_ONCE = 200
"""Unreadable messages in a row, each an exception, that are dropped without a pause. More is a lasting failure."""

PROBE_KEY = "giro:probe"
PROBE_MS = 60_000


def connect(url: str) -> redis.Redis:
    """Make a client with short timeouts, because nothing in Giro waits for the queue, and a stop least of all."""
    return redis.Redis.from_url(
        url,
        socket_timeout=0.5,
        socket_connect_timeout=0.5,
        retry=Retry(ExponentialBackoff(cap=0.1, base=0.02), 1),
        max_connections=16,
    )


class Consumer(dramatiq.Consumer):
    """Takes messages from Dramatiq's consumer of a queue and does not trust them: it drops invalid ones.

    Dramatiq trusts its messages. An unreadable message would be kept forever. A message that names another queue or
    has other options would end the thread that works on it. A message with a later time would be held until then.

    A queue that cannot be used is like an empty one: no call raises an exception. Dramatiq would log each, twice a
    second with a traceback, and would repeat an acknowledgement until the queue is back, instead of working.
    """

    def __init__(self, broker: "Broker", queue_name: str, source: dramatiq.Consumer) -> None:
        self._broker = broker
        self._queue_name = queue_name
        self._source = source
        self._in_work: set[str] = set()
        """The queue's own ids of the messages that were handed out."""
        self._clear_up_at = 0.0
        self._failures = 0
        self._unreadable = 0
        self._again_at = 0.0

    def __next__(self) -> dramatiq.MessageProxy | None:
        """Return the next message, or None if the queue is empty or cannot be used."""
        if (seconds := self._again_at - time.monotonic()) > 0:
            time.sleep(min(seconds, PAUSE_STEP_SECONDS))
            return None
        try:
            message = self._take()
        except (DramatiqError, redis.RedisError) as error:
            self._pause(error)
            return None
        except Exception as error:  # bytes that are not a message can cause any exception
            self._unreadable += 1
            if self._unreadable > FAILURES_AT_ONCE:
                self._pause(error)
            else:
                log.warning("message_dropped", queue=self._queue_name, error=f"{type(error).__name__}: {error}")
            return None
        self._failures = self._unreadable = 0
        return message

    def ack(self, message: dramatiq.MessageProxy) -> None:
        self._in_work.discard(message.options[ID])
        with _quietly():
            self._source.ack(message)

    def nack(self, message: dramatiq.MessageProxy) -> None:
        self._in_work.discard(message.options[ID])
        with _quietly():
            self._source.nack(message)

    def requeue(self, messages: Iterable[dramatiq.MessageProxy]) -> None:
        with _quietly():
            self._source.requeue(messages)

    def close(self) -> None:
        self._source.close()

    def _pause(self, error: Exception) -> None:
        """Return no message for a while, which grows with each failure in a row."""
        queue_away.warn(error=error)
        seconds = FIRST_PAUSE_SECONDS * 2 ** min(self._failures, 10)
        self._failures += 1
        self._again_at = time.monotonic() + min(seconds, LONGEST_PAUSE_SECONDS)

    def _take(self) -> dramatiq.MessageProxy | None:
        proxy = next(self._source)
        if proxy is None:
            self._clear_up()
            return None
        if self._is_valid(proxy):
            self._in_work.add(proxy.options[ID])
            return self._rebuilt(proxy)
        log.warning("message_dropped", queue=self._queue_name, error="no actor of this queue can handle it")
        # Only its place is freed: the id in the queue that it names could be the one of another message.
        self._acknowledge("", proxy.message_id)
        return None

    def _is_valid(self, said: dramatiq.MessageProxy) -> bool:
        """Return whether a message has valid types and names an actor of this queue."""
        types = ((said.message_id, str), (said.actor_name, str), (said.args, list | tuple), (said.kwargs, dict))
        if not all(isinstance(value, kind) for value, kind in types) or not isinstance(said.options, dict):
            return False
        actor = self._broker.actors.get(said.actor_name)
        delayed = self._queue_name.endswith(".DQ")  # Giro sends none there
        named = isinstance(said.options.get(ID), str)
        return named and not delayed and actor is not None and actor.queue_name == self._queue_name

    def _rebuilt(self, said: dramatiq.MessageProxy) -> dramatiq.MessageProxy:
        message: dramatiq.Message[Any] = dramatiq.Message(
            queue_name=self._queue_name,
            actor_name=said.actor_name,
            args=tuple(said.args),
            kwargs=said.kwargs,
            options={ID: said.options[ID]},
            message_id=said.message_id,
        )
        return dramatiq.MessageProxy(message)

    def _acknowledge(self, queue_id: str | bytes, message_id: str = "") -> None:
        """Acknowledge a message by its id in the queue, and free the place of one that was read, by its own id."""
        message: dramatiq.Message[Any] = dramatiq.Message(
            queue_name=self._queue_name,
            actor_name="",
            args=(),
            kwargs={},
            options={ID: queue_id},
            message_id=message_id,
        )
        self._source.ack(dramatiq.MessageProxy(message))

    def _clear_up(self) -> None:
        """Acknowledge dropped messages. Otherwise the queue would never become idle, and the scheduler waits for that.

        A dropped message may be unreadable, so its id is unknown. But while no message is in work, every message that
        was delivered to this consumer and is not acknowledged has been dropped.
        """
        if self._in_work or time.monotonic() < self._clear_up_at:
            return
        self._clear_up_at = time.monotonic() + CLEAR_UP_SECONDS
        broker = self._broker
        for queue_id in broker.client.smembers(f"{broker.namespace}:__acks__.{broker.broker_id}.{self._queue_name}"):
            self._acknowledge(queue_id)


@contextmanager
def _quietly() -> Iterator[None]:
    """Go on without the queue. A message that was not acknowledged is delivered again, and its work is done already."""
    try:
        yield
    except (DramatiqError, redis.RedisError) as error:
        queue_away.warn(error=error)


class Broker(RedisBroker):
    """Dramatiq's broker, with our own consumer."""

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        """Create a consumer of a queue."""
        return Consumer(self, queue_name, super().consume(queue_name, prefetch, timeout))


def make_broker(client: redis.Redis, middleware: list[Middleware] | None = None) -> RedisBroker:
    """Make the broker and set it as Dramatiq's global broker.

    It has no retries, no age limit and no time limit. The work to do is in the database, a message is only a hint
    that will be repeated, and a time limit could raise an exception in the middle of a commit.
    """
    broker = Broker(  # type: ignore[no-untyped-call]
        client=client,
        middleware=[Callbacks(), ShutdownNotifications(), *(middleware or [])],
        heartbeat_timeout=HEARTBEAT_TIMEOUT_MS,
        maintenance_chance=MAINTENANCE_PER_MILLION,
    )
    dramatiq.set_broker(broker)
    return broker


def probe(broker: RedisBroker) -> None:
    """Check that the queue can be used: write and read back, and look at what is kept there. Raises redis.RedisError.

    A PING is answered by a full server, by a replica that cannot be written, and by one with other data.
    """
    client, kept, written = broker.client, f"{broker.namespace}:{SETTLEMENT_QUEUE}", uuid4().hex
    client.set(PROBE_KEY, written, px=PROBE_MS)
    read = client.get(PROBE_KEY)
    client.llen(kept)
    client.hlen(f"{kept}.msgs")
    client.zcard(f"{broker.namespace}:__heartbeats__")
    if read != written.encode():
        raise redis.DataError("the queue returned something else than what was written")


def is_idle(broker: RedisBroker, queue: str) -> bool:
    """Return whether a queue has no messages, waiting or in work. Raises redis.RedisError."""
    return count_messages(broker, queue) == 0


def count_messages(broker: RedisBroker, queue: str) -> int:
    """Count a queue's messages, waiting or in work. Raises redis.RedisError.

    In addition to the queue's list, Dramatiq keeps each message in a hash until the message is acknowledged.
    """
    count: int = broker.client.hlen(f"{broker.namespace}:{queue}.msgs")
    return count
