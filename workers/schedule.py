"""The scheduler: a plain tick that asks the database what is due. Start it with `python -m workers.schedule`."""

import signal
import sys
import threading
import time
from collections.abc import Sequence
from zoneinfo import ZoneInfo

import redis
from dramatiq.brokers.redis import RedisBroker

from core.clock import now_us
from core.domain.dead_letters import Letter
from core.processes.lifeline import Heartbeat
from core.queue.broker import connect, is_idle, make_broker, queue_away
from core.queue.messages import JOBS_QUEUE, message
from core.queue.wakeups import send_wakeup
from core.security.secrets import Secrets
from core.settings import Settings, SettingsError, load_settings, variable
from core.storage import dead_letters, transfers
from core.storage.engines import DATABASE_ERRORS, DatabaseError, Engine, open_engine
from core.storage.unit_of_work import count_error, is_at_this_schema
from core.telemetry.logging import configure_logging, get_logger, report_to_sentry
from core.telemetry.metrics import serve_metrics
from core.telemetry.metrics import wakeups as metrics
from workers.clock_watch import ClockWatch
from workers.jobs import JOBS
from workers.metrics.gauges import Gauges
from workers.timetable import Timetable, timetable_of

log = get_logger(__name__)

MOST_AT_ONCE = 100
"""Maximum messages of one kind that a tick sends. The next tick that finds the queue empty sends more."""


def sweep(database: Engine, broker: RedisBroker, *, age_seconds: float) -> bool:
    """Wake the settlement worker if a transfer has been pending for longer than `age_seconds`. Returns whether it was.

    This covers every lost message, and every crash between a commit and its wake-up. If the clock was set back, a
    transfer can be in the future. It is unknown how long it has waited, so the worker is woken too.
    """
    with database.reading() as connection:
        backlog = transfers.backlog(connection)
    if backlog.oldest_created_at is None:
        return False
    age = (now_us() - backlog.oldest_created_at) / 1e6
    if 0 <= age <= age_seconds:
        return False
    sent = send_wakeup(broker)
    if sent:
        metrics.swept.inc()
        log.warning("transfers_overdue", pending=backlog.pending, oldest_age_seconds=round(age, 3))
    return sent


def send_due(database: Engine, broker: RedisBroker, zone: ZoneInfo) -> int:
    """Send the messages that follow from the database, for each queue that has no messages left. Returns their number.

    A message that was lost is sent again once its queue is empty. A parked one waits for an operator.
    """
    with database.reading() as connection:
        parked = dead_letters.parked(connection)
        most = MOST_AT_ONCE + len(parked)
        letters = [
            Letter(job.queue, job.name, arguments)
            for job in JOBS
            if job.due is not None
            for arguments in job.due(connection, zone, most)
        ]
    due = [letter for letter in letters if (letter.actor, letter.text) not in parked]
    return sum(
        _send(broker, [letter for letter in due if letter.queue == queue])
        for queue in dict.fromkeys(letter.queue for letter in due)
        if is_idle(broker, queue)
    )


def send_again(database: Engine, broker: RedisBroker) -> int:
    """Send the messages that operators have retried, each once its queue is empty. Returns their number."""
    with database.reading() as connection:
        letters = dead_letters.to_retry(connection)
    return _send(broker, [letter for letter in letters if is_idle(broker, letter.queue)])


def _send(broker: RedisBroker, letters: Sequence[Letter]) -> int:
    for letter in letters:
        broker.enqueue(message(letter.actor, letter.queue, *letter.arguments))
    return len(letters)


def tick(database: Engine, broker: RedisBroker, timetable: Timetable, *, age_seconds: float, zone: ZoneInfo) -> None:
    """Do everything that is due now.

    If the queue or the database is not available, that is logged, and the next tick tries again. Under another schema
    than this code's, nothing is due, because its tables and messages may have another meaning.
    """
    try:
        with database.reading() as connection:
            if not is_at_this_schema(database, connection):
                return
        sweep(database, broker, age_seconds=age_seconds)
        send_due(database, broker, zone)
        send_again(database, broker)
        now = time.monotonic()
        for job in timetable.due(now):
            broker.enqueue(message(job, JOBS_QUEUE))
            timetable.done(job, now)
    except redis.RedisError as error:
        queue_away.warn(error=error)
    except DATABASE_ERRORS as error:
        count_error(database, error)
        log.warning("database_unavailable", error=str(getattr(error, "orig", error)))


def run(settings: Settings) -> None:
    """Tick until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    database = open_engine(settings)
    database.require_schema()
    database.moved_on = stop.set
    broker = make_broker(connect(Secrets(settings).queue_url()))
    serve_metrics(
        settings.metrics_host,
        settings.metrics_port_scheduler,
        variable=variable("metrics_port_scheduler"),
        sources=[Gauges(database, broker, settings)],
    )
    heartbeat = Heartbeat(settings, "scheduler")
    heartbeat.start()
    timetable = timetable_of(settings, database)
    log.info("scheduler_ready")
    age_seconds = 0.0  # at the start, every pending transfer may have lost its wake-up
    watch = ClockWatch(database)
    while not stop.is_set():
        watch.look()  # before the first tick, which may close a month
        tick(database, broker, timetable, age_seconds=age_seconds, zone=settings.zone)
        age_seconds = settings.sweep_age_seconds
        stop.wait(settings.sweep_seconds)
    heartbeat.stop()
    database.close()
    log.info("scheduler_stopped")


def main() -> int:
    """Start the scheduler. Returns the exit status."""
    try:
        settings = load_settings()
        configure_logging(settings, process="scheduler")
        report_to_sentry(settings)
        run(settings)
    except (SettingsError, DatabaseError) as error:
        print(f"giro: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
