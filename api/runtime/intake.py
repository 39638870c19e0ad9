"""The intake: every write of the API, gathered into groups that share one commit.

An fsync costs far more than a transfer, so the requests that wait while one group is being committed become the
next group. A lone request is a group of one and waits for nobody. All writing happens on one thread.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from logging import DEBUG
from typing import Any, cast

from sqlalchemy import Connection

from core.domain.batches import AcceptedBatch, BatchRequest
from core.domain.errors import CommonError, ErrorCode, GiroError, Refusal, Unavailable
from core.domain.transfers import AcceptedTransfer, TransferRequest
from core.domain.users import Identity
from core.failpoints import hit
from core.services.identity import users
from core.services.transfers import batches
from core.services.transfers.accepting import accept
from core.services.verification import LedgerHalted, keep_breach
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from core.telemetry.logging import get_logger
from core.telemetry.metrics import intake as metrics

log = get_logger(__name__)

Work = Callable[[Connection], Any]
Task = TransferRequest | BatchRequest | Work

LOGGED_REQUEST_IDS = 20

_recorded: ContextVar[bool] = ContextVar("recorded", default=False)


def begin_request() -> None:
    """Note that nothing has been written yet for the request that begins."""
    _recorded.set(False)


def has_recorded() -> bool:
    """Say whether something was written for the request in hand: that stays, whatever fails afterwards."""
    return _recorded.get()


class _State(Enum):
    """A job waits until its time runs out or the writer takes it; the first of the two decides."""

    WAITING = auto()
    TAKEN = auto()
    EXPIRED = auto()


@dataclass(slots=True, eq=False)
class _Job:
    task: Task
    by: Identity | None
    answer: "asyncio.Future[Any]"
    state: _State = _State.WAITING
    arrived: float = field(default_factory=time.perf_counter)


class Intake:
    """Takes requests from the event loop and writes them, grouped, on its own thread.

    At most `waiting` requests wait, each for `seconds` at most; a group holds `group` transfers at most, but never
    splits a batch. No batch is accepted while `most_pending` transfers wait to be settled. `on_accepted` is called on
    the thread after a commit that accepted a transfer.
    """

    def __init__(
        self,
        database: Database,
        *,
        waiting: int,
        group: int,
        seconds: float,
        most_pending: int,
        on_accepted: Callable[[], None],
    ) -> None:
        self._database = database
        self._most_pending = most_pending
        self._most_waiting = waiting
        self._group = group
        self._seconds = seconds
        self._on_accepted = on_accepted
        self._loop = asyncio.get_running_loop()
        self._jobs: dict[_Job, None] = {}  # insertion-ordered, and quick to leave from the middle
        self._changed = threading.Condition()
        self._stopping = False
        self._call_scheduled = False
        for code in (CommonError.UNAVAILABLE, CommonError.OUTCOME_UNKNOWN, CommonError.INTERNAL_ERROR):
            metrics.transfers_refused.labels(code)  # at 0 from the start, so that the first one is seen to rise
        # A daemon: a writer that waits for a lock held by a stopped process must not keep this one alive.
        self._thread = threading.Thread(target=self._write_until_stopped, name="writer", daemon=True)
        self._thread.start()

    async def accept(self, request: TransferRequest, *, by: Identity | None = None) -> AcceptedTransfer:
        """Accept a transfer: when this returns, it is on disk. Raises what `run` raises."""
        return cast(AcceptedTransfer, await self._submit(request, by))

    async def accept_batch(self, request: BatchRequest, *, by: Identity | None = None) -> AcceptedBatch:
        """Accept a batch: when this returns, it is on disk. Raises what `run` raises."""
        return cast(AcceptedBatch, await self._submit(request, by))

    async def run[T](self, work: Callable[[Connection], T], *, by: Identity | None = None) -> T:
        """Do a piece of work in the next unit of work and return what it returned, once that is committed.

        `by` is the caller, if the work needs one. Raises Refusal (`unauthenticated`) if the caller has lost access or
        role by then, Unavailable when nothing was recorded (too much waits, no turn in time, the database cannot be
        written), OutcomeUnknown when the commit failed, and what the work itself raised.
        """
        return cast(T, await self._submit(work, by))

    async def stop(self) -> None:
        """Write what waits, then end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join, self._seconds)

    # --- on the event loop ---

    async def _submit(self, task: Task, by: Identity | None) -> Any:
        job = _Job(task, by, self._loop.create_future())
        with self._changed:
            if self._stopping or len(self._jobs) >= self._most_waiting:
                raise _turned_away(task)
            self._jobs[job] = None
            self._show_waiting()
        if not self._call_scheduled:
            # Called once the requests that are ready in this turn of the loop have come this far too: they make one
            # group. Called at once, the writer would take the first alone and pay a whole commit for it.
            self._call_scheduled = True
            self._loop.call_soon(self._call_writer)
        timer = self._loop.call_later(self._seconds, self._expire, job)
        try:
            outcome = await job.answer
        except asyncio.CancelledError:
            self._expire(job)  # nobody waits for it any more: it must not take up room, nor be written later
            raise
        finally:
            timer.cancel()
        _recorded.set(True)
        return outcome

    def _call_writer(self) -> None:
        self._call_scheduled = False
        with self._changed:
            self._changed.notify()

    def _expire(self, job: _Job) -> None:
        with self._changed:
            if job.state is not _State.WAITING:
                return  # taken: its outcome comes, and is the truth
            job.state = _State.EXPIRED
            del self._jobs[job]
            self._show_waiting()
        if not job.answer.done():
            _time_and_count(job, Unavailable())
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

    def _take(self) -> list[_Job]:
        """Claim the next group. Called only with the database's lock held: until then a request may still expire."""
        with self._changed:
            group = list(_first(self._jobs, self._group))
            for job in group:
                job.state = _State.TAKEN
                del self._jobs[job]
            self._show_waiting()
        return group

    def _write_group(self) -> None:
        group: list[_Job] = []
        try:
            with unit_of_work(self._database) as connection:
                started = time.perf_counter()
                group = self._take()
                hit("accept.before_write")
                outcomes = self._perform(connection, group)
                hit("accept.before_commit")
        except GiroError as error:
            # Failed before it was taken (the lock was not available), or rolled back: the whole group gets this answer.
            self._answer([(job, error) for job in group or self._take()])
        except Exception:
            # One of them broke it for all: alone, only that one fails.
            log.exception("group_failed", count=len(group))
            for job in group or self._take():
                self._write_alone(job)
        else:
            hit("accept.after_commit")
            metrics.accept_group_size.observe(len(group))
            metrics.accept_commit_duration.observe(time.perf_counter() - started)
            self._answer(list(zip(group, outcomes, strict=True)))

    def _write_alone(self, job: _Job) -> None:
        try:
            with unit_of_work(self._database) as connection:
                (outcome,) = self._perform(connection, [job])
        except Exception as error:
            outcome = error
        self._answer([(job, outcome)])

    def _perform(self, connection: Connection, group: Sequence[_Job]) -> list[Any]:
        """Do every job of a group; a refusal is an outcome, any other exception ends the unit of work."""
        outcomes: dict[_Job, Any] = {}
        orders = {job: job.task for job in group if isinstance(job.task, TransferRequest)}
        changed = users.changed_since(connection, {job.by for job in orders if job.by})
        for job in [job for job in orders if job.by in changed]:
            outcomes[job] = Refusal(CommonError.UNAUTHENTICATED)
            del orders[job]
        outcomes |= zip(orders, accept(connection, list(orders.values())) if orders else (), strict=True)
        # The rest one by one, and the caller is looked up for each: the one before may have ended their access.
        return [outcomes[job] if job in outcomes else _do(connection, job.by, self._work_of(job)) for job in group]

    def _work_of(self, job: _Job) -> Work:
        if isinstance(job.task, BatchRequest):
            return partial(batches.accept, request=job.task, most_pending=self._most_pending)
        return cast(Work, job.task)

    def _answer(self, answers: list[tuple[_Job, Any]]) -> None:
        if _report([(job, outcome) for job, outcome in answers if _is_order(job.task)]):
            self._on_accepted()
        self._loop.call_soon_threadsafe(_resolve, answers)


def _first(jobs: Iterable[_Job], most: int) -> Iterator[_Job]:
    """Pick jobs from the front, as many as hold so many transfers (one of another kind counts as one); at least one."""
    taken = 0
    for job in jobs:
        size = len(job.task.transfers) if isinstance(job.task, BatchRequest) else 1
        if taken and taken + size > most:
            return
        taken += size
        yield job


def _is_order(task: Task) -> bool:
    """Say whether a task is to move money: metrics and logs tell of those."""
    return isinstance(task, TransferRequest | BatchRequest)


def _do(connection: Connection, by: Identity | None, work: Work) -> Any:
    if by and users.changed_since(connection, [by]):
        return Refusal(CommonError.UNAUTHENTICATED)
    savepoint = connection.begin_nested()
    try:
        result = work(connection)
    except GiroError as error:
        savepoint.rollback()
        if isinstance(error, LedgerHalted):  # kept after the rollback, which would take the breach with it
            keep_breach(connection, error)
        return error
    savepoint.commit()
    return result


def _resolve(answers: Sequence[tuple[_Job, Any]]) -> None:
    for job, outcome in answers:
        if job.answer.done():
            continue  # the caller has gone
        if isinstance(outcome, BaseException):
            job.answer.set_exception(outcome)
        else:
            job.answer.set_result(outcome)


def _turned_away(task: Task) -> Unavailable:
    """Count what is not even taken in. Not timed: answers that cost nothing would make the others look fast."""
    error = Unavailable()
    if _is_order(task):
        _count_refusal(error)
    return error


def _time_and_count(job: _Job, outcome: Any) -> None:
    """Tell the metrics that a transfer has its answer."""
    if _is_order(job.task):
        metrics.accept_latency.observe(time.perf_counter() - job.arrived)
        if isinstance(outcome, BaseException):
            _count_refusal(outcome)


def _count_refusal(error: BaseException) -> None:
    """Count a transfer that was not accepted, by the code that its answer has."""
    code = error.code if isinstance(error, GiroError) else CommonError.INTERNAL_ERROR
    metrics.transfers_refused.labels(code).inc()


def _report(answers: Sequence[tuple[_Job, Any]]) -> bool:
    """Tell logs and metrics what became of a group's transfers; say whether one was accepted."""
    for job, outcome in answers:
        _time_and_count(job, outcome)
    fresh = [outcome for _, outcome in answers if not isinstance(outcome, BaseException) and not outcome.replayed]
    transfers = [outcome for outcome in fresh if isinstance(outcome, AcceptedTransfer)]
    in_batches = [outcome for outcome in fresh if isinstance(outcome, AcceptedBatch)]
    for batch in in_batches:
        _report_batch(batch)
    if transfers:
        _report_transfers(transfers)
    return bool(transfers) or any(batch.id for batch in in_batches)


def _report_transfers(transfers: Sequence[AcceptedTransfer]) -> None:
    metrics.transfers_accepted.inc(len(transfers))
    if log.is_enabled_for(DEBUG):
        for transfer in transfers:
            log.debug("transfer_accepted", sequence=transfer.sequence, request_id=transfer.request_id)
    log.info(
        "accepted",
        count=len(transfers),
        first_sequence=transfers[0].sequence,
        last_sequence=transfers[-1].sequence,
        request_ids=[transfer.request_id for transfer in transfers[:LOGGED_REQUEST_IDS]],
    )


def _report_batch(batch: AcceptedBatch) -> None:
    metrics.transfers_accepted.inc(batch.accepted)
    for code, count in Counter(line for line in batch.lines if isinstance(line, ErrorCode)).items():
        metrics.transfers_refused.labels(code).inc(count)
    log.info(
        "batch_accepted" if batch.id else "batch_refused",
        batch_id=batch.id and str(batch.id),
        count=batch.accepted,
        refused=len(batch.lines) - batch.accepted,
        first_sequence=batch.first_sequence,
    )
