"""The actor that settles transfers."""

import threading
from functools import partial
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from core.domain.dead_letters import Letter
from core.failpoints import hit
from core.queue.messages import SETTLE, SETTLEMENT_QUEUE
from core.queue.wakeups import take_wakeup
from core.services.transfers.settlement import settle_pending
from core.settings import Settings
from core.storage.sqlite.engine import Database
from workers.guard import Guard


def settle(broker: RedisBroker, database: Database, settings: Settings, stop: threading.Event) -> int:
    """Settle all pending transfers and return their number.

    Transfers that could not be settled are still pending, and the sweep sends another wake-up for them.
    """
    take_wakeup(broker)
    settled = settle_pending(
        database, batch=settings.settlement_batch, lock_ms=settings.settlement_lock_ms, stop=stop.is_set
    )
    hit("settle.before_ack")
    return settled


def declare(broker: RedisBroker, database: Database, settings: Settings, stop: threading.Event) -> None:
    """Declare the actor. It has no time limit, which could raise an exception in the middle of a commit."""
    guard = Guard(database)

    @dramatiq.actor(broker=broker, actor_name=SETTLE, queue_name=SETTLEMENT_QUEUE)
    def look(*_ignored: Any, **_forged: Any) -> None:
        # The content of a message is ignored. It only means that something may have to be settled.
        guard.run(Letter(SETTLEMENT_QUEUE, SETTLE), partial(settle, broker, database, settings, stop))
