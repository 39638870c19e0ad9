"""The timetable: when the scheduler sends the message of which job."""

import time

from core.settings import Settings
from core.storage.sqlite.engine import Database
from workers.jobs import JOBS


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


def timetable_of(settings: Settings, database: Database) -> Timetable:
    """Return the timetable of these settings."""
    every_seconds, later, now = {}, {}, time.monotonic()
    for job in JOBS:
        if job.every_seconds is not None and (seconds := job.every_seconds(settings)) > 0:
            every_seconds[job.name] = seconds
            later[job.name] = now + job.wait_seconds(database, settings) if job.wait_seconds else 0.0
    return Timetable(every_seconds, later=later)
