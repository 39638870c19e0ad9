"""The actor that settles transfers."""

import threading
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from core import metrics
from core.domain.errors import GiroError
from core.logging import get_logger
from core.queue import SETTLE, SETTLEMENT_QUEUE, take_wakeup
from core.services.settlement import settle_pending
from core.settings import Settings
from core.storage.engine import Database

log = get_logger(__name__)


def settle(broker: RedisBroker, database: Database, settings: Settings, stop: threading.Event) -> int:
    """Settle all that is pending and count it.

    Never raises: what could not be settled is still pending, and the sweep sends the next wake-up.
    """
    take_wakeup(broker)
    try:
        return settle_pending(
            database, batch=settings.settlement_batch, lock_ms=settings.settlement_lock_ms, stop=stop.is_set
        )
    except GiroError as error:
        log.warning("settlement_postponed", code=error.code, detail=error.detail)
    except Exception:
        metrics.unhandled_exceptions.labels("settlement").inc()
        log.exception("settlement_failed")
    return 0


def declare(broker: RedisBroker, database: Database, settings: Settings, stop: threading.Event) -> None:
    """Declare the actor. No time limit: it would raise in the middle of a commit."""

    @dramatiq.actor(broker=broker, actor_name=SETTLE, queue_name=SETTLEMENT_QUEUE)
    def look(*_ignored: Any, **_forged: Any) -> None:
        # Whatever a message says, it means no more than "look".
        settle(broker, database, settings, stop)
