"""The queue. A message is only a hint to look at the database; its content is never trusted.

A wake-up only means that something may have to be settled. Losing, repeating, delaying or forging one changes
nothing: the worker reads the pending transfers from the database, and the sweep wakes it if a wake-up was lost.
"""

import time
from collections.abc import Iterable
from typing import Any

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.errors import ConnectionClosed
from dramatiq.middleware import Callbacks, Middleware, ShutdownNotifications
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from core.telemetry.logging import get_logger

log = get_logger(__name__)


HEARTBEAT_TIMEOUT_MS = 5_000
"""After this time without a heartbeat a worker counts as dead, and its messages are delivered again."""
MAINTENANCE_PER_MILLION = 100_000
"""Share of queue commands that look for dead workers. With the default it takes minutes to find them."""

ID = "redis_message_id"
"""The option of a message with its id in the queue, which Dramatiq acknowledges it by."""

CLEAR_UP_SECONDS = 5.0
"""How often an idle consumer acknowledges messages that it has dropped."""


def connect(url: str) -> redis.Redis:
    """Make a client with short timeouts, because nothing in Giro waits for the queue."""
    return redis.Redis.from_url(
        url,
        socket_timeout=2,
        socket_connect_timeout=1,
        retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), 2),
        max_connections=16,
    )


class Consumer(dramatiq.Consumer):
    """Takes messages from Dramatiq's consumer of a queue and does not trust them: it drops invalid ones.

    Dramatiq trusts its messages. An unreadable message would be kept forever. A message that names another queue or
    has other options would end the thread that works on it. A message with a later time would be held until then.
    """

    def __init__(self, broker: "Broker", queue_name: str, source: dramatiq.Consumer) -> None:
        self._broker = broker
        self._queue_name = queue_name
        self._source = source
        self._in_work: set[str] = set()
        """The queue's own ids of the messages that were handed out."""
        self._clear_up_at = 0.0

    def __next__(self) -> dramatiq.MessageProxy | None:
        """Return the next message, or None if the queue is empty."""
        try:
            return self._take()
        except redis.ConnectionError as error:
            raise ConnectionClosed(error) from None  # type: ignore[no-untyped-call]

    def ack(self, message: dramatiq.MessageProxy) -> None:
        self._in_work.discard(message.options[ID])
        self._source.ack(message)

    def nack(self, message: dramatiq.MessageProxy) -> None:
        self._in_work.discard(message.options[ID])
        self._source.nack(message)

    def requeue(self, messages: Iterable[dramatiq.MessageProxy]) -> None:
        self._source.requeue(messages)

    def close(self) -> None:
        self._source.close()

    def _take(self) -> dramatiq.MessageProxy | None:
        try:
            proxy = next(self._source)
        except (ConnectionClosed, redis.RedisError):
            raise
        except Exception as error:  # bytes that are not a message can cause any exception
            log.warning("message_dropped", queue=self._queue_name, error=f"{type(error).__name__}: {error}")
            return None
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


def is_idle(broker: RedisBroker, queue: str) -> bool:
    """Return whether a queue has no messages, waiting or in work. Raises redis.RedisError."""
    return count_messages(broker, queue) == 0


def count_messages(broker: RedisBroker, queue: str) -> int:
    """Count a queue's messages, waiting or in work. Raises redis.RedisError.

    In addition to the queue's list, Dramatiq keeps each message in a hash until the message is acknowledged.
    """
    count: int = broker.client.hlen(f"{broker.namespace}:{queue}.msgs")
    return count
