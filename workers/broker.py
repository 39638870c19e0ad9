"""The broker of a worker process, with every actor declared on it."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import dramatiq
import redis
from dramatiq import Broker, Worker
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Middleware, MiddlewareError

from core.domain.dead_letters import Letter
from core.queue.broker import make_broker
from core.queue.messages import SETTLEMENT_QUEUE
from core.services.transfers.settlement import count_from_zero
from core.settings import Settings
from core.storage.engines import Engine, SettlerLock
from core.telemetry import tracing
from core.telemetry.logging import get_logger
from core.telemetry.metrics import settlement as metrics
from workers.guard import Guard
from workers.jobs import JOBS, settlement
from workers.jobs.job import Job
from workers.jobs.settlement import Settling
from workers.lookout import Lookout
from workers.metrics.queue import QueueMetrics

log = get_logger(__name__)

STANDBY_SECONDS = 0.2
"""Time between two tries of a standby worker. A takeover takes about this long."""


SETTLES = "the settlement worker"
"""The signature of the holder of the settlement lock."""


class StoodDown(MiddlewareError):
    """The worker was told to stop while it stood by."""


class OneSettlementWorker(Middleware):
    """Lets a worker settle only if no other worker settles on this database.

    The second worker stands by, and takes over when the first one ends, however it ends: its lock is then free.
    This runs in the process that settles, after every fork, so the lock has one holder.
    """

    def __init__(
        self,
        database: Engine,
        stop: threading.Event,
        *,
        settling: Callable[[], None],
        settle: Callable[[], int | None],
    ) -> None:
        """`settling` is called when this worker has the lock, `settle` to settle without a message."""
        self._database = database
        self._stop = stop
        self._settling = settling
        self._lookout = Lookout(database, settle)
        self._lock: SettlerLock | None = None

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Wait for the lock, then settle the pending transfers, without waiting for the queue.

        Raises StoodDown if the process is asked to stop first: the worker must not start without the lock.
        """
        if worker.consumer_whitelist and SETTLEMENT_QUEUE not in worker.consumer_whitelist:
            return
        if worker.worker_threads != 1:
            raise MiddlewareError("settlement is serial: start the worker with --processes 1 --threads 1")
        metrics.settlement_active.set(0)
        count_from_zero()
        lock = self._database.settler()
        if not lock.take(SETTLES):
            log.warning("standing_by", database=self._database.place)
            while not lock.take(SETTLES):
                if self._stop.wait(STANDBY_SECONDS):
                    lock.close()
                    raise StoodDown
            log.warning("taking_over", database=self._database.place)
        self._lock = lock
        self._settling()
        metrics.settlement_active.set(1)
        self._lookout.start()

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Stop looking. The lock is held until the actor has ended too."""
        self._lookout.stop()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Let the next worker settle."""
        if self._lock is not None:
            metrics.settlement_active.set(0)
            self._lock.close()


def create_broker(
    settings: Settings,
    database: Engine,
    client: redis.Redis,
    stop: threading.Event,
    *,
    settling: Callable[[], None] = lambda: None,
) -> RedisBroker:
    """Make the broker and declare the actors of all queues.

    `stop` ends a settlement between two units of work. `settling` is called when the worker is no longer a standby.
    """
    guard, work = Guard(database), Settling(database, settings, stop)
    one = OneSettlementWorker(
        database, stop, settling=settling, settle=lambda: guard.run(settlement.LETTER, work.settle)
    )
    broker = make_broker(client, [one, QueueMetrics()])
    settlement.declare(broker, guard, work)
    for job in JOBS:
        actor = (_of_one_row if job.of_row else _of_none)(guard, job, partial(_traced, job, database, settings))
        dramatiq.actor(broker=broker, actor_name=job.name, queue_name=job.queue)(actor)
    return broker


def _traced(job: Job, database: Engine, settings: Settings, *arguments: int) -> None:
    """Do the work of a job, in a trace if traces are on."""
    if tracing.active is None:
        job.work(database, settings, *arguments)
        return
    with tracing.active.job(job.name):
        job.work(database, settings, *arguments)


def _of_none(guard: Guard, job: Job, work: Callable[[], object]) -> Callable[..., None]:
    """Make the actor of a job without a row. Arguments are ignored, because messages can be forged."""

    def actor(*_ignored: Any, **_forged: Any) -> None:
        guard.run(Letter(job.queue, job.name), work)

    return actor


def _of_one_row(guard: Guard, job: Job, work: Callable[[int], object]) -> Callable[..., None]:
    def actor(row_id: Any = None, *_ignored: Any, **_forged: Any) -> None:
        if type(row_id) is not int or not 0 < row_id < 2**63:
            log.warning("message_ignored", job=job.name)
            return
        guard.run(Letter(job.queue, job.name, (row_id,)), lambda: work(row_id))

    return actor
