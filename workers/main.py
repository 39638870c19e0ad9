"""The worker process: `python -m workers.main settlement|jobs`, or `dramatiq workers.main -p 1 -t 1`."""

import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from dramatiq import Worker

from core.processes.lifeline import Heartbeat, freeze_garbage_collector
from core.queue.broker import connect
from core.queue.messages import SETTLEMENT_QUEUE
from core.security.secrets import Secrets
from core.settings import Settings, SettingsError, load_settings, variable
from core.storage.engines import DatabaseError, open_engine
from core.telemetry.logging import configure_logging, get_logger, report_to_sentry
from core.telemetry.metrics import serve_metrics
from core.telemetry.tracing import start_tracing, stop_tracing
from workers.broker import StoodDown, create_broker
from workers.jobs import QUEUES

log = get_logger(__name__)

ROLES = {"settlement": (SETTLEMENT_QUEUE,), "jobs": QUEUES}
"""Each queue has its own thread, so that statements do not wait for a long verification."""

STANDBY = "standby"
"""The name in the heartbeat of a settlement worker without the lock."""

JOBS_POLL_MS = 1000
"""A job can wait a second; a transfer cannot (`GIRO_WORKER_POLL_MS`)."""

STOP_MS = 8000
"""Time that a worker has to finish its message."""


def run(settings: Settings, role: str) -> None:
    """Work on a role's queues until SIGTERM or SIGINT, then finish the current messages.

    Each queue has one thread, and all are in one process. So Dramatiq's own command, with its master and its fork, is
    not needed, and the process that holds the settlement lock is the one that settles.
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    database = open_engine(settings)
    database.require_schema()
    database.moved_on = stop.set
    port = f"metrics_port_{role}"
    serve_metrics(settings.metrics_host, getattr(settings, port), variable=variable(port))
    # A settlement worker stands by until it has the lock. Its beats must not look like those of the worker that
    # settles.
    workers: list[Worker] = []
    name = STANDBY if role == SETTLEMENT_QUEUE else role
    heartbeat = Heartbeat(settings, name, alive=lambda: all(map(works, workers)))
    heartbeat.start()
    client = connect(Secrets(settings).queue_url())
    poll_ms = settings.worker_poll_ms if role == "settlement" else JOBS_POLL_MS
    # One broker for each worker, because a broker assumes that it has only one worker.
    workers += [
        Worker(
            create_broker(settings, database, client, stop, settling=partial(heartbeat.rename, role)),
            queues={queue},
            worker_threads=1,
            worker_timeout=poll_ms,
        )
        for queue in ROLES[role]
    ]
    try:
        for worker in workers:
            worker.start()
        freeze_garbage_collector()
        log.info("worker_ready")
        stop.wait()
        with ThreadPoolExecutor(len(workers)) as pool:  # in parallel, because the supervisor gives them the time of one
            list(pool.map(lambda worker: worker.stop(timeout=STOP_MS), workers))
    except StoodDown:
        pass
    finally:
        heartbeat.stop()
        database.close()
        stop_tracing()
    log.info("worker_stopped")


def works(worker: Worker) -> bool:
    """Return whether no thread of a worker has died. Without this, a process that lost one would look healthy."""
    return all(thread.is_alive() for thread in [*worker.workers, *worker.consumers.values()])


def main() -> int:
    """Start in the role of the command line. Returns the exit status."""
    if sys.argv[1:] not in ([role] for role in ROLES):
        print("usage: python -m workers.main settlement|jobs", file=sys.stderr)
        return 2
    role = sys.argv[1]
    try:
        settings = load_settings()
        configure_logging(settings, process=role)
        report_to_sentry(settings)
        start_tracing(settings, process=role)
        run(settings, role)
    except (SettingsError, DatabaseError) as error:
        print(f"giro: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

# For Dramatiq's own command, which imports this module and uses the broker that it declares. A process that draws
# documents loads it under another name, and needs no broker.
if __name__ == "workers.main":
    _settings = load_settings()
    broker = create_broker(
        _settings, open_engine(_settings), connect(Secrets(_settings).queue_url()), threading.Event()
    )
