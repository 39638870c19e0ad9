"""The description of a job. The broker makes an actor from it, and the scheduler sends its messages."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from core.queue.messages import JOBS_QUEUE
from core.settings import Settings
from core.storage.engines import Engine

Due = Callable[[Connection, ZoneInfo, int], Iterable[tuple[int, ...]]]
"""Returns the arguments of each message that is due. The number limits how many row ids are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A kind of work that messages start. A failed job runs again with the next message."""

    name: str
    """The name of its actor."""
    work: Callable[..., Any]
    """Called with the database, the settings and, if `of_row` is set, a row id."""
    queue: str = JOBS_QUEUE
    of_row: bool = False
    """Whether a message has a row id. The id is only used to look up a row, and not trusted further."""
    every_seconds: Callable[[Settings], float] | None = None
    """For jobs in the timetable, all on the jobs queue: the time between two messages. 0 means that none are sent."""
    wait_seconds: Callable[[Engine, Settings], float] | None = None
    """How long the first message can wait after a start of the scheduler. Without it, the job is due at once."""
    due: Due | None = None
    """For jobs whose messages follow from the database. They are sent when the job's queue is empty."""
