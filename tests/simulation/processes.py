"""The processes of the service that touch money, run one step at a time on one real database file.

All code that makes decisions is real: the intake, the unit of work, the services, the worker, the sweep. Only what
determines the order of events is replaced: the turnstile (the test chooses the order), the writer's thread (the test
calls its steps), the event loop, the clock and the queue.
"""

import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import redis
from sqlalchemy import Connection, event
from sqlalchemy.exc import OperationalError

import api.runtime.intake
from api.runtime.intake import Intake
from core.domain.dead_letters import Letter
from core.domain.errors import GiroError
from core.domain.transfers import TransferRequest
from core.queue.messages import SETTLE, SETTLEMENT_QUEUE
from core.queue.wakeups import send_wakeup
from core.settings import Settings
from core.storage.engines import open_engine
from core.storage.unit_of_work import unit_of_work
from tests.builders import BOUNDS
from tests.simulation.queue import Queue
from tests.simulation.time import Clock, Loop
from workers.guard import Guard
from workers.jobs.settlement import Settling
from workers.schedule import sweep

BEFORE_COMMIT, AFTER_COMMIT, COMMIT_FAILS = "before its commit", "after its commit", "its commit fails"
INTAKE_SECONDS = 5.0
GROUP = 4
SWEEP_AGE_SECONDS = 5.0


class Crash(BaseException):
    """The end of a process in the middle of its work."""


class DiskError(Exception):
    """The driver's error when a commit does not reach the disk."""

    sqlite_errorname = "SQLITE_IOERR_FSYNC"


@dataclass
class Strike:
    """A fault in a process's unit of work number `unit`, counted from 0."""

    what: str
    unit: int = 0


class World:
    """The state that all processes share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = Clock()
        self.loop = Loop(self.clock)
        self.queue = Queue(self.clock)
        self.writing: Process | None = None
        self.meanwhile: dict[Process, list[Callable[[], None]]] = {}
        """Actions of others while a process waits for its turn; these actions themselves do not wait."""
        self.others_wait = False

    def stand_in_line(self, process: "Process") -> None:
        """Run the actions of others first."""
        for other in self.meanwhile.pop(process, []):
            other()


class Turnstile:
    """Replaces the file locks: no process waits for long, but others may go first."""

    def __init__(self, world: World, process: "Process") -> None:
        self._world = world
        self._process = process

    @contextmanager
    def turn(self) -> Iterator[None]:
        self._world.stand_in_line(self._process)
        assert self._world.writing is None, f"{self._process.name} writes in the turn of {self._world.writing}"
        self._world.writing = self._process
        try:
            self._process.begins()
            yield
        finally:
            self._world.writing = None
        self._process.committed()

    def others_wait(self) -> bool:
        return self._world.others_wait

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


class Process:
    """A process with its own connections to the one database file; it may crash at any commit."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self._effect: Callable[[], None] = lambda: None
        self._on_begin: Callable[[], None] = lambda: None
        self._strike: Strike | None = None
        self._units = 0
        self.start()

    def start(self) -> None:
        self.database = open_engine(self.world.settings)
        self.database.__dict__["turnstile"] = Turnstile(self.world, self)
        event.listen(self.database.writer, "commit", self._about_to_commit)

    def end(self) -> None:
        """End the process: uncommitted changes are lost."""
        self.database.close()

    def restart(self) -> None:
        self.end()
        self.start()

    def begins(self) -> None:
        self._on_begin()

    def committed(self) -> None:
        """End its turn; what it wrote is on disk."""
        self._effect()
        self._units += 1
        if self._is_struck(AFTER_COMMIT, self._units - 1):
            raise Crash

    @contextmanager
    def at_work(
        self, *, effect: Callable[[], None], strike: Strike | None, begin: Callable[[], None] = lambda: None
    ) -> Iterator[None]:
        """Run `work`, and apply `effect` to the model at each commit. After a crash, start the process again."""
        self._effect, self._on_begin, self._strike, self._units = effect, begin, strike, 0
        try:
            yield
        except Crash:
            self.restart()
        finally:
            self._effect, self._on_begin, self._strike = lambda: None, lambda: None, None

    def _about_to_commit(self, _connection: Connection) -> None:
        if self._is_struck(BEFORE_COMMIT, self._units):
            raise Crash
        if self._is_struck(COMMIT_FAILS, self._units):
            self._strike = None  # the fence that follows succeeds
            raise OperationalError("COMMIT", {}, DiskError("disk I/O error"))

    def _is_struck(self, what: str, unit: int) -> bool:
        return self._strike is not None and (self._strike.what, self._strike.unit) == (what, unit)


class _Idle(threading.Thread):
    """Replaces the writer's thread and does nothing by itself."""

    def start(self) -> None:
        """Do nothing: the test calls the steps one by one."""


class Api(Process):
    """An API process: requests wait in its intake until its writer gets its turn."""

    def start(self) -> None:
        super().start()
        self.asked_to_wake = False
        self.intake: Intake = self.world.loop.run_until_complete(self._open())

    async def _open(self) -> Intake:
        bare = SimpleNamespace(Thread=_Idle, Condition=threading.Condition)
        with patch.object(api.runtime.intake, "threading", bare):
            return Intake(
                self.database,
                waiting=8,
                group=GROUP,
                seconds=INTAKE_SECONDS,
                bounds=BOUNDS,
                on_accepted=self._on_accepted,
            )

    def _on_accepted(self) -> None:
        assert self.world.writing is None, "the wake-up was requested before its commit"
        self.asked_to_wake = True

    def take_in(self, task: TransferRequest | Callable[[Connection], Any]) -> Any:
        """Take in a request; the returned task gets its answer later."""
        call: Coroutine[Any, Any, Any] = (
            self.intake.accept(task) if isinstance(task, TransferRequest) else self.intake.run(task)
        )
        waiting = self.world.loop.create_task(call)
        self.world.loop.catch_up()
        return waiting

    def write(self, *, effect: Callable[[], None], begin: Callable[[], None], strike: Strike | None) -> None:
        """Let the writer write its next group."""
        with self.at_work(effect=effect, strike=strike, begin=begin):
            self.intake._write_group()
        self.world.loop.catch_up()

    def send(self) -> bool:
        """Let the waker send the requested wake-ups; return False if it was disturbed."""
        asked, self.asked_to_wake = self.asked_to_wake, False
        try:
            if asked:
                send_wakeup(self.world.queue)  # type: ignore[arg-type]
        except redis.RedisError:
            return False
        return True


class Worker(Process):
    """A settlement worker."""

    def settle(self, *, batch: int, effect: Callable[[], None], strike: Strike | None) -> None:
        """Process a message, whatever its content."""
        settings = self.world.settings.model_copy(update={"settlement_batch": batch})
        work = partial(Settling(self.database, settings, threading.Event()).on_message, self.world.queue)  # type: ignore[arg-type]
        with self.at_work(effect=effect, strike=strike):
            Guard(self.database).run(Letter(SETTLEMENT_QUEUE, SETTLE), work)


class Scheduler(Process):
    """The process that runs the sweep."""

    def sweep(self) -> bool:
        """Look once for transfers that are pending for too long; return whether the queue was reachable."""
        try:
            sweep(self.database, self.world.queue, age_seconds=SWEEP_AGE_SECONDS)  # type: ignore[arg-type]
        except redis.RedisError:
            return False
        return True


class Operator(Process):
    """An operator with a shell; each command is a separate process."""

    def act(self, work: Callable[[Connection], Any], *, effect: Callable[[], None]) -> str | None:
        """Do one thing in a unit of work; return the code of a refusal, or None."""
        with self.at_work(effect=effect, strike=None):
            try:
                with unit_of_work(self.database) as connection:
                    work(connection)
            except GiroError as refusal:
                return str(refusal.code)
        return None
