"""The intake: every write of the API, gathered into groups that share one commit.

An fsync costs far more than a transfer, so the requests that wait while one group is being committed become the
next group. A lone request is a group of one and waits for nobody. All writing happens on one thread.
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import partial
from itertools import takewhile
from typing import Any, cast

from sqlalchemy import Connection

from api.runtime.intake_jobs import Job, JobState, Task, TracedJob, Work, first, is_order
from api.runtime.intake_report import count_refusal, report, time_and_count, trace
from core.domain.batches import AcceptedBatch, BatchRequest
from core.domain.errors import CommonError, GiroError, Refusal, Unavailable
from core.domain.lanes import Lane
from core.domain.pending import PendingBounds
from core.domain.transfers import AcceptedTransfer, TransferRequest
from core.domain.users import Identity
from core.failpoints import hit
from core.services.identity import users
from core.services.transfers import batches
from core.services.transfers.accepting import accept
from core.services.verification import LedgerHalted, keep_breach
from core.storage.engines import Engine
from core.storage.unit_of_work import unit_of_work
from core.telemetry import tracing
from core.telemetry.logging import get_logger
from core.telemetry.metrics import intake as metrics

log = get_logger(__name__)

_recorded: ContextVar[bool] = ContextVar("recorded", default=False)


def begin_request() -> None:
    """Record that nothing has been written yet for the new request."""
    _recorded.set(False)


def has_recorded() -> bool:
    """Return whether something was written for the current request. It stays written, whatever fails afterwards."""
    return _recorded.get()


class Intake:
    """Takes requests from the event loop and writes them, grouped, on its own thread.

    At most `waiting` requests wait, each for at most `seconds`. A group has at most `group` transfers, but a batch is
    never split. `bounds` say how many transfers may wait to be settled. `on_accepted` is called on the thread after a
    commit that accepted a transfer.
    """

    def __init__(
        self,
        database: Engine,
        *,
        waiting: int,
        group: int,
        seconds: float,
        bounds: PendingBounds,
        on_accepted: Callable[[], None],
    ) -> None:
        self._database = database
        self._bounds = bounds
        self._most_waiting = waiting
        self._group = group
        self._seconds = seconds
        self._on_accepted = on_accepted
        self._loop = asyncio.get_running_loop()
        self._jobs: dict[Job, None] = {}  # in order of insertion, and with fast removal
        self._changed = threading.Condition()
        self._stopping = False
        self._accepted_at = -math.inf
        """When the last commit that accepted transfers ended (monotonic)."""
        self._call_scheduled = False
        for code in (CommonError.UNAVAILABLE, CommonError.OUTCOME_UNKNOWN, CommonError.INTERNAL_ERROR):
            metrics.transfers_refused.labels(code)  # starts at 0, so that the first increase is visible
        # A daemon: a writer that waits for a lock held by a stopped process must not keep this one alive.
        self._thread = threading.Thread(target=self._write_until_stopped, name="writer", daemon=True)
        self._thread.start()

    async def accept(self, request: TransferRequest, *, by: Identity | None = None) -> AcceptedTransfer:
        """Accept a transfer: when this returns, it is on disk. Raises what `run` raises."""
        return cast(AcceptedTransfer, await self._submit(request, by, Lane.ACCEPT))

    async def accept_batch(self, request: BatchRequest, *, by: Identity | None = None) -> AcceptedBatch:
        """Accept a batch: when this returns, it is on disk. Raises what `run` raises."""
        return cast(AcceptedBatch, await self._submit(request, by, Lane.ACCEPT))

    async def run[T](self, work: Callable[[Connection], T], *lanes: Lane, by: Identity | None = None) -> T:
        """Do a piece of work in the next unit of work with its lanes, and return its result once that is committed.

        `by` is the caller, if the work needs one. Raises Refusal (`unauthenticated`) if the caller has lost access or
        role by then, Unavailable if nothing was recorded (too many requests wait, no turn came in time, the database
        cannot be written), OutcomeUnknown if the commit failed, and the exceptions of the work itself.
        """
        return cast(T, await self._submit(work, by, *lanes))

    def has_accepted_within(self, seconds: float) -> bool:
        """Return whether transfers were accepted a moment ago: then the database could be written."""
        return time.monotonic() - self._accepted_at < seconds

    async def stop(self) -> None:
        """Write the waiting jobs, then end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join, self._seconds)

    # --- on the event loop ---

    async def _submit(self, task: Task, by: Identity | None, *lanes: Lane) -> Any:
        job = Job(task, by, frozenset(lanes), self._loop.create_future())
        if tracing.active is not None and (request := tracing.active.current_request()):
            job.traced = TracedJob(request.trace_id, tracing.Moment())
        with self._changed:
            if self._stopping or len(self._jobs) >= self._most_waiting:
                raise _turned_away(task)
            self._jobs[job] = None
            self._show_waiting()
        if not self._call_scheduled:
            # The writer is called after all requests that are ready in this turn of the loop have come here too, so
            # they make one group. If it were called now, it would take the first one alone and spend a whole commit on
            # it.
            self._call_scheduled = True
            self._loop.call_soon(self._call_writer)
        timer = self._loop.call_later(self._seconds, self._expire, job)
        try:
            outcome = await job.answer
        except asyncio.CancelledError:
            self._expire(job)  # the client has gone: the job must not take up room or be written later
            raise
        finally:
            timer.cancel()
        _recorded.set(True)
        return outcome

    def _call_writer(self) -> None:
        self._call_scheduled = False
        with self._changed:
            self._changed.notify()

    def _expire(self, job: Job) -> None:
        with self._changed:
            if job.state is not JobState.WAITING:
                return  # taken: the writer answers it
            job.state = JobState.EXPIRED
            del self._jobs[job]
            self._show_waiting()
        if not job.answer.done():
            time_and_count(job, Unavailable())
            if tracing.active is not None:
                trace(tracing.active, [(job, Unavailable())], time.perf_counter())
        _resolve([(job, Unavailable())])

    def _show_waiting(self) -> None:
        metrics.intake_waiting.set(len(self._jobs))

    # --- on the writer's thread ---

    def _write_until_stopped(self) -> None:
        while self._wait_for_work():
            self._write_group()

    def _wait_for_work(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._stopping)
            return bool(self._jobs)

    def _wanted(self) -> frozenset[Lane]:
        """Return the lanes that the next group needs, by the requests that wait now."""
        with self._changed:
            return frozenset().union(*(job.lanes for job in first(self._jobs, self._group)))

    def _take(self, held: frozenset[Lane]) -> list[Job]:
        """Claim the next group. Call it only with its lanes held: until then, a request may still expire.

        The group ends before a request that came meanwhile and needs another lane.
        """
        with self._changed:
            group = list(takewhile(lambda job: job.lanes <= held, first(self._jobs, self._group)))
            for job in group:
                job.state = JobState.TAKEN
                del self._jobs[job]
            self._show_waiting()
        return group

    def _write_group(self) -> None:
        lanes = self._wanted()
        held = self._database.held(lanes)
        group: list[Job] = []
        try:
            with unit_of_work(self._database, *lanes) as connection:
                started = time.perf_counter()
                group = self._take(held)
                hit("accept.before_write")
                outcomes = self._perform(connection, group)
                hit("accept.before_commit")
        except GiroError as error:
            # Failed before it was taken (the lock was not available), or rolled back: the whole group gets this answer.
            self._answer([(job, error) for job in group or self._take(held)])
        except Exception:
            # One job made the whole group fail. If each is written alone, only that one fails.
            log.exception("group_failed", count=len(group))
            for job in group or self._take(held):
                self._write_alone(job)
        else:
            hit("accept.after_commit")
            metrics.accept_group_size.observe(len(group))
            metrics.accept_commit_duration.observe(time.perf_counter() - started)
            self._answer(list(zip(group, outcomes, strict=True)))

    def _write_alone(self, job: Job) -> None:
        try:
            with unit_of_work(self._database, *job.lanes) as connection:
                (outcome,) = self._perform(connection, [job])
        except Exception as error:
            outcome = error
        self._answer([(job, outcome)])

    def _perform(self, connection: Connection, group: Sequence[Job]) -> list[Any]:
        """Do all jobs of a group. A refusal is an outcome; any other exception ends the unit of work."""
        outcomes: dict[Job, Any] = {}
        orders = {job: job.task for job in group if isinstance(job.task, TransferRequest)}
        changed = users.changed_since(connection, {job.by for job in orders if job.by})
        for job in [job for job in orders if job.by in changed]:
            outcomes[job] = Refusal(CommonError.UNAUTHENTICATED)
            del orders[job]
        decided = accept(connection, list(orders.values()), self._bounds) if orders else ()
        outcomes |= zip(orders, decided, strict=True)
        # All other jobs run one by one. The caller is read for each, because the previous job may have ended their
        # access.
        return [outcomes[job] if job in outcomes else _do(connection, job.by, self._work_of(job)) for job in group]

    def _work_of(self, job: Job) -> Work:
        if isinstance(job.task, BatchRequest):
            return partial(batches.accept, request=job.task, bounds=self._bounds)
        return cast(Work, job.task)

    def _answer(self, answers: list[tuple[Job, Any]]) -> None:
        tracer = tracing.active
        ended = 0.0 if tracer is None else time.perf_counter()
        if report([(job, outcome) for job, outcome in answers if is_order(job.task)]):
            self._accepted_at = time.monotonic()
            self._on_accepted()
        self._loop.call_soon_threadsafe(_resolve, answers)
        if tracer is not None:  # last, because callers wait for the lines above
            trace(tracer, answers, ended)


def _do(connection: Connection, by: Identity | None, work: Work) -> Any:
    if by and users.changed_since(connection, [by]):
        return Refusal(CommonError.UNAUTHENTICATED)
    savepoint = connection.begin_nested()
    try:
        result = work(connection)
    except GiroError as error:
        savepoint.rollback()
        if isinstance(error, LedgerHalted):  # stored after the rollback, which would remove the breach
            keep_breach(connection, error)
        return error
    savepoint.commit()
    return result


def _resolve(answers: Sequence[tuple[Job, Any]]) -> None:
    for job, outcome in answers:
        if job.answer.done():
            continue  # the caller has gone
        if isinstance(outcome, BaseException):
            job.answer.set_exception(outcome)
        else:
            job.answer.set_result(outcome)


def _turned_away(task: Task) -> Unavailable:
    """Count a job that is refused before it waits. It is not timed, because such fast answers would hide slow ones."""
    error = Unavailable()
    if is_order(task):
        count_refusal(error)
    return error
