"""The scheduler: a plain tick that asks the database what is due. Start it with `python -m workers.schedule`."""

import signal
import sys
import threading
import time
from collections.abc import Sequence
from zoneinfo import ZoneInfo

import redis
from dramatiq.brokers.redis import RedisBroker

from core.clock import now_us, to_us
from core.domain.dead_letters import Letter
from core.processes.lifeline import Heartbeat
from core.queue.broker import connect, is_idle, make_broker
from core.queue.messages import BACK_UP, CLOSE_MONTHS, JOBS_QUEUE, MAKE_GROUP, MAKE_STATEMENT, STATEMENTS_QUEUE, message
from core.queue.wakeups import send_wakeup
from core.services.statements.making import month_due
from core.settings import Settings, SettingsError, load_settings, variable
from core.storage import dead_letters, statement_runs, statements, transfers, verifications
from core.storage.sqlite.engine import Database, DatabaseError
from core.storage.unit_of_work import DATABASE_ERRORS, count_error, is_at_this_schema
from core.telemetry.logging import configure_logging, get_logger, report_to_sentry
from core.telemetry.metrics import serve_metrics
from core.telemetry.metrics import wakeups as metrics
from workers.metrics.gauges import Gauges

log = get_logger(__name__)

MOST_AT_ONCE = 100
"""Messages of one kind that a tick sends; the next one that finds the queue empty sends more."""

LOOK_FOR_BACKUP_SECONDS = 600
"""Longest time between two looks at whether a backup is due."""


def sweep(database: Database, broker: RedisBroker, *, age_seconds: float) -> bool:
    """Wake the settlement worker if a transfer has been pending for longer than `age_seconds`; say whether it was.

    This covers every message that was lost, and every crash between a commit and its wake-up. Where the clock was set
    back, a transfer lies in the future, nobody knows for how long it has waited, and the worker is woken too.
    """
    with database.reader.connect() as connection:
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


def send_statements_due(database: Database, broker: RedisBroker, zone: ZoneInfo) -> int:
    """Send what the statements' queue has to do, if it has nothing left; count the messages.

    A message that was lost is sent again once the queue is empty. A parked one waits for an operator.
    """
    with database.reader.connect() as connection:
        parked = dead_letters.parked(connection)
        most = MOST_AT_ONCE + len(parked)
        letters = [Letter(STATEMENTS_QUEUE, CLOSE_MONTHS)] if month_due(connection, zone) else []
        letters += [
            Letter(STATEMENTS_QUEUE, MAKE_STATEMENT, (row,)) for row in statements.requested(connection, limit=most)
        ]
        letters += [
            Letter(STATEMENTS_QUEUE, MAKE_GROUP, (row,)) for row in statement_runs.undone_groups(connection, limit=most)
        ]
    due = [letter for letter in letters if (letter.actor, letter.text) not in parked]
    return _send(broker, due) if due and is_idle(broker, STATEMENTS_QUEUE) else 0


def send_again(database: Database, broker: RedisBroker) -> int:
    """Send the messages that operators want tried again, each once its queue is empty; count them."""
    with database.reader.connect() as connection:
        letters = dead_letters.to_retry(connection)
    return _send(broker, [letter for letter in letters if is_idle(broker, letter.queue)])


def _send(broker: RedisBroker, letters: Sequence[Letter]) -> int:
    for letter in letters:
        broker.enqueue(message(letter.actor, letter.queue, *letter.arguments))
    return len(letters)


class Timetable:
    """Which jobs are due, each first at the start, or `later`, and then every so many seconds."""

    def __init__(self, every_seconds: dict[str, float], later: dict[str, float] | None = None) -> None:
        """`later` is when a job is first due, in monotonic seconds."""
        self._every = every_seconds
        self._next = dict.fromkeys(every_seconds, 0.0) | (later or {})

    def due(self, now: float) -> list[str]:
        """The jobs that are due at `now` (monotonic seconds)."""
        return [job for job, moment in self._next.items() if moment <= now]

    def done(self, job: str, now: float) -> None:
        """Note that a job's message has been sent; until then it stays due."""
        self._next[job] = now + self._every[job]


def seconds_to_full_verification(database: Database, every_hours: float) -> float:
    """How long a whole verification can wait: a restart alone is no reason to read everything again."""
    with database.reader.connect() as connection:
        last = verifications.newest_full(connection)
    age = -1.0 if last is None else (now_us() - to_us(last.finished_at)) / 1e6
    return every_hours * 3600 - age if age >= 0 else 0.0  # one from the future was under a wrong clock


def timetable_of(settings: Settings, database: Database) -> Timetable:
    """The timetable of these settings."""
    every_seconds = {
        "verify_recent": settings.verify_recent_minutes * 60,
        "verify": settings.verify_hours * 3600,
        "anchor": settings.anchor_minutes * 60,
        "checkpoint": settings.checkpoint_minutes * 60,
        "forget_expired_tokens": 3600,
    }
    if settings.backup_hours > 0:
        # The worker looks whether one is due; what failed, or was cut short by a stop, is soon tried again.
        every_seconds[BACK_UP] = min(settings.backup_hours * 3600, LOOK_FOR_BACKUP_SECONDS)
    verify_at = time.monotonic() + seconds_to_full_verification(database, settings.verify_hours)
    return Timetable(every_seconds, later={"verify": verify_at})


def tick(database: Database, broker: RedisBroker, timetable: Timetable, *, age_seconds: float, zone: ZoneInfo) -> None:
    """Do once what is due now. A queue or a database that is away is logged; the next tick tries again.

    Nothing is due under another schema than this code's: its tables may say something else, and its messages too.
    """
    try:
        with database.reader.connect() as connection:
            if not is_at_this_schema(database, connection):
                return
        sweep(database, broker, age_seconds=age_seconds)
        send_statements_due(database, broker, zone)
        send_again(database, broker)
        now = time.monotonic()
        for job in timetable.due(now):
            broker.enqueue(message(job, JOBS_QUEUE))
            timetable.done(job, now)
    except redis.RedisError as error:
        log.warning("queue_unreachable", error=str(error))
    except DATABASE_ERRORS as error:
        count_error(error)
        log.warning("database_unavailable", error=str(getattr(error, "orig", error)))


def run(settings: Settings) -> None:
    """Tick until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    database = Database(settings)
    database.require_schema()
    database.moved_on = stop.set
    broker = make_broker(connect(settings.queue_url))
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
    age_seconds = 0.0  # at the start whatever is pending may have been forgotten while nobody ran
    while not stop.is_set():
        tick(database, broker, timetable, age_seconds=age_seconds, zone=settings.zone)
        age_seconds = settings.sweep_age_seconds
        stop.wait(settings.sweep_seconds)
    heartbeat.stop()
    database.close()
    log.info("scheduler_stopped")


def main() -> int:
    """Start the scheduler; the exit status."""
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
