"""The broker of a worker process, with every actor declared on it."""

import threading
from collections.abc import Callable

import redis
from dramatiq import Broker, Worker
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Middleware, MiddlewareError

from core.files.locks import FileLock
from core.queue.broker import make_broker
from core.queue.messages import SETTLE, SETTLEMENT_QUEUE
from core.services.transfers.settlement import count_from_zero
from core.settings import Settings
from core.storage.sqlite.engine import Database
from core.storage.sqlite.turnstile import settlement_lock
from core.telemetry.logging import get_logger
from core.telemetry.metrics import settlement as metrics
from workers.jobs import backups, settlement, statements, upkeep
from workers.metrics.queue import QueueMetrics

log = get_logger(__name__)

STANDBY_SECONDS = 0.2
"""Time between two tries of a worker that stands by, and so about the time it takes to take over."""


SETTLES = "the settlement worker"
"""How the holder of the settlement lock signs."""


class StoodDown(MiddlewareError):
    """The worker was told to stop while it stood by."""


class OneSettlementWorker(Middleware):
    """Lets a worker settle only when no other one does, on this database, on this machine.

    The worker that comes second stands by, and takes over when the first one ends, however it ends: the kernel
    gives its lock back. It runs in the process that settles, after every fork, so the lock has one holder.
    """

    def __init__(self, database: Database, stop: threading.Event, settling: Callable[[], None]) -> None:
        """`settling` is called when the lock is this worker's."""
        self._database = database
        self._stop = stop
        self._settling = settling
        self._lock: FileLock | None = None

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Wait for the lock, then settle what is pending: no message needs to come for it.

        Raises StoodDown when the process is to stop first: the worker must not start without the lock.
        """
        if worker.consumer_whitelist and SETTLEMENT_QUEUE not in worker.consumer_whitelist:
            return
        if worker.worker_threads != 1:
            raise MiddlewareError("settlement is serial: start the worker with --processes 1 --threads 1")
        metrics.settlement_active.set(0)
        count_from_zero()
        lock = settlement_lock(self._database.path)
        if not lock.take(SETTLES):
            log.warning("standing_by", database=str(self._database.path))
            while not lock.take(SETTLES):
                if self._stop.wait(STANDBY_SECONDS):
                    lock.close()
                    raise StoodDown
            log.warning("taking_over", database=str(self._database.path))
        self._lock = lock
        self._settling()
        metrics.settlement_active.set(1)
        broker.get_actor(SETTLE)()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Let the next worker settle."""
        if self._lock is not None:
            metrics.settlement_active.set(0)
            self._lock.close()


def create_broker(
    settings: Settings,
    database: Database,
    client: redis.Redis,
    stop: threading.Event,
    *,
    settling: Callable[[], None] = lambda: None,
) -> RedisBroker:
    """Make the broker and declare the actors of all queues.

    `stop` ends a settlement between two units of work; `settling` is called when the worker stands by no longer.
    """
    broker = make_broker(client, [OneSettlementWorker(database, stop, settling), QueueMetrics()])
    settlement.declare(broker, database, settings, stop)
    upkeep.declare(broker, database, settings)
    backups.declare(broker, database, settings)
    statements.declare(broker, database, settings)
    return broker
