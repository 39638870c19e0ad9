"""The actor that settles transfers."""

import threading
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from core.domain.dead_letters import Letter
from core.failpoints import hit
from core.queue.messages import SETTLE, SETTLEMENT_QUEUE
from core.queue.wakeups import take_wakeup
from core.services.transfers.settlement import settle_pending
from core.settings import Settings
from core.storage.engines import Engine
from workers.guard import Guard

LETTER = Letter(SETTLEMENT_QUEUE, SETTLE)


class Settling:
    """Settles pending transfers for the two that call: the actor, and the lookout (workers/lookout.py)."""

    def __init__(self, database: Engine, settings: Settings, stop: threading.Event) -> None:
        self._database = database
        self._settings = settings
        self._stop = stop
        self._turn = threading.Lock()

    def settle(self) -> int:
        """Settle all pending transfers and return their number. Transfers that could not be settled stay pending."""
        settings = self._settings
        with self._turn:
            return settle_pending(
                self._database,
                batch=settings.settlement_batch,
                lock_ms=settings.settlement_lock_ms,
                stop=self._stop.is_set,
            )

    def on_message(self, broker: RedisBroker) -> int:
        """Settle for a message. The queue is used outside of the turn, so that a hanging one delays no lookout."""
        take_wakeup(broker)
        settled = self.settle()
        hit("settle.before_ack")
        return settled


def declare(broker: RedisBroker, guard: Guard, settling: Settling) -> None:
    """Declare the actor. It has no time limit, which could raise an exception in the middle of a commit."""

    @dramatiq.actor(broker=broker, actor_name=SETTLE, queue_name=SETTLEMENT_QUEUE)
    def look(*_ignored: Any, **_forged: Any) -> None:
        # The content of a message is ignored. It only means that something may have to be settled.
        guard.run(LETTER, lambda: settling.on_message(broker))
