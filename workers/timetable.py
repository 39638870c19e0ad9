"""The timetable: when the scheduler sends the message of which job."""

import time

from core.settings import Settings
from core.storage.engines import Engine
from workers.jobs import JOBS


class Timetable:
    """Tells which jobs are due. A job is first due at the start, or at its time in `later`, and then at an interval."""

    def __init__(self, every_seconds: dict[str, float], later: dict[str, float] | None = None) -> None:
        """`every_seconds` has the interval of each job, `later` the monotonic seconds at which a job is first due."""
        self._every = every_seconds
        self._next = dict.fromkeys(every_seconds, 0.0) | (later or {})

    def due(self, now: float) -> list[str]:
        """Return the jobs that are due at `now` (monotonic seconds)."""
        return [job for job, moment in self._next.items() if moment <= now]

    def done(self, job: str, now: float) -> None:
        """Record that a job's message was sent. Until then the job is due."""
        self._next[job] = now + self._every[job]


def timetable_of(settings: Settings, database: Engine) -> Timetable:
    """Return the timetable of these settings."""
    every_seconds, later, now = {}, {}, time.monotonic()
    for job in JOBS:
        if job.every_seconds is not None and (seconds := job.every_seconds(settings)) > 0:
            every_seconds[job.name] = seconds
            later[job.name] = now + job.wait_seconds(database, settings) if job.wait_seconds else 0.0
    return Timetable(every_seconds, later=later)
