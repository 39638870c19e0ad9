"""The jobs of the intake: one for each request that wants to write."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, NamedTuple

from sqlalchemy import Connection

from core.domain.batches import BatchRequest
from core.domain.lanes import Lane
from core.domain.transfers import TransferRequest
from core.domain.users import Identity
from core.telemetry.tracing import Moment

Work = Callable[[Connection], Any]
Task = TransferRequest | BatchRequest | Work


class JobState(Enum):
    """A job waits until its time runs out or the writer takes it, whichever comes first."""

    WAITING = auto()
    TAKEN = auto()
    EXPIRED = auto()


@dataclass(slots=True, eq=False)
class Job:
    """One request: its task, its caller if it has one, the lanes it needs, and the answer that the caller waits for."""

    task: Task
    by: Identity | None
    lanes: frozenset[Lane]
    answer: "asyncio.Future[Any]"
    state: JobState = JobState.WAITING
    arrived: float = field(default_factory=time.perf_counter)
    traced: "TracedJob | None" = None
    """Set if the request is sampled."""


class TracedJob(NamedTuple):
    """The trace of a job's request, and when the job was queued."""

    trace_id: int
    queued: Moment


def is_order(task: Task) -> bool:
    """Return whether a task moves money. Metrics and logs record these tasks."""
    return isinstance(task, TransferRequest | BatchRequest)


def first(jobs: Iterable[Job], most: int) -> Iterator[Job]:
    """Take jobs from the front with at most `most` transfers, but at least one job. Other work counts as one."""
    taken = 0
    for job in jobs:
        size = len(job.task.transfers) if isinstance(job.task, BatchRequest) else 1
        if taken and taken + size > most:
            return
        taken += size
        yield job
