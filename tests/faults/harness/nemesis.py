"""The nemesis: carries out a plan against a running service, and repairs everything at the end."""

import heapq
import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

from core.storage.sqlite.turnstile import Turnstile
from tests.faults.disks import Disk
from tests.faults.harness.health import Span
from tests.faults.harness.plan import Fault
from tests.faults.harness.processes import children_of, send
from tests.faults.harness.queue import Tamperer
from tests.flows.stack import Stack

Undo = Callable[[], None]


class Nemesis:
    """Carries out a plan. Each kind of fault is a method that returns how to end it, or None if it was not possible."""

    def __init__(self, stack: Stack, failpoints: Path, seed: int, disk: Disk | None = None) -> None:
        """`failpoints` is the file that the service's processes read their failpoints from, `disk` has its data."""
        self.done: Counter[str] = Counter()
        self.kills: list[tuple[float, str]] = []
        """The time of each kill (monotonic seconds), and the process."""
        self.spans: list[Span] = []
        """The time of each fault; a fault that is over at once has no length."""
        self._stack = stack
        self._disk = disk
        self._disk_is_broken = False
        self._failpoints = failpoints
        self._switched_on: dict[str, str] = {}
        self._tamperer = Tamperer(stack.data / "run" / "valkey.sock", random.Random(seed))
        self._database = stack.data / "banking.db"
        self._over = threading.Event()
        self._stopped: set[int] = set()
        self._kinds: dict[str, Callable[[Fault], Undo | None]] = {
            "kill": self._kill,
            "kill everything": self._kill_everything,
            "terminate": self._terminate,
            "stop and continue": self._stop,
            "failpoint": self._fail,
            "flush the queue": lambda _: _done(self._tamperer.flush()),
            "break the queue": self._break_queue,
            "take the queue away": self._take_queue_away,
            "fill the disk": self._fill_disk,
            "make the disk read-only": self._make_disk_read_only,
            "restore an old queue": lambda fault: _done(self._tamperer.restore_dump(int(fault.what[0]))),
            "duplicate messages": lambda _: _done(self._tamperer.duplicate()),
            "reorder messages": lambda _: _done(self._tamperer.reorder()),
            "delay messages": self._delay_messages,
            "forge a message": lambda fault: _done(self._tamperer.forge(fault.what[0])),
            "hold the write lock": lambda fault: self._hold(self._hold_turn, fault),
            "hold the database": lambda fault: self._hold(self._hold_database, fault),
            "start a second worker": self._second_worker,
            "skew the clock": self._skew,
        }

    def carry_out(self, plan: list[Fault]) -> None:
        """Inject each fault at its time, or as soon as possible after it."""
        order = count()
        started = time.monotonic()
        agenda = [(fault.at, next(order), fault, None) for fault in plan]
        heapq.heapify(agenda)
        while agenda:
            at, _, fault, undo = heapq.heappop(agenda)
            early = started + at - time.monotonic()
            if early > 0:
                time.sleep(early)
            if undo is not None:
                undo()
            elif (end := self._begin(fault)) is not None and fault.seconds:
                heapq.heappush(agenda, (time.monotonic() - started + fault.seconds, next(order), fault, end))

    def heal(self) -> None:
        """End every active fault, and make sure that the service runs."""
        self._repair_disk()
        self._free_disk()
        self._over.set()
        self._tamperer.bring_back()
        self._tamperer.repair()
        self._switched_on.clear()
        self._write_failpoints()
        for pid in self._stopped:
            self._continue(pid)
        for process in self._stack.processes:
            if process is not self._stack.supervisor and process.poll() is None:
                process.terminate()
        self.keep_running()
        now = time.monotonic()
        self.spans.append(Span("start again", now, now))

    def keep_running(self) -> None:
        """Start the service if it is down, as systemd would. It exits if a child dies before it is ready."""
        if self._stack.supervisor.poll() is not None:
            self._stack.supervisor = self._stack.run("up")

    def _begin(self, fault: Fault) -> Undo | None:
        self.keep_running()
        self._tamperer.take_dump()
        undo = self._kinds[fault.kind](fault)
        if undo is not None:
            undo = self._timed(fault, undo)
            self.done[fault.kind if fault.kind != "failpoint" else f"failpoint: {_action(fault.what[0])}"] += 1
        return undo

    def _timed(self, fault: Fault, undo: Undo) -> Undo:
        """Record when the fault began, and when it ends."""
        span = Span(fault.name, time.monotonic())
        self.spans.append(span)
        if not fault.seconds:
            span.ended = span.began

        def end() -> None:
            span.ended = time.monotonic()
            undo()

        return end

    # --- processes ---

    def _target(self, fault: Fault) -> tuple[str, int] | None:
        """Return the first living child among those that a fault may affect."""
        alive = children_of(self._stack.supervisor.pid)
        return next(((name, alive[name]) for name in fault.what if name in alive), None)

    def _kill(self, fault: Fault) -> Undo | None:
        target = self._target(fault)
        if target is None or not send(target[1], signal.SIGKILL):
            return None
        self.kills.append((time.monotonic(), target[0]))
        return _nothing

    def _kill_everything(self, _fault: Fault) -> Undo:
        """Kill the supervisor, and with it its children (the kernel does that). Then start the service again."""
        self.kills.append((time.monotonic(), "everything"))
        self._stack.supervisor.kill()
        self._stack.supervisor.wait()
        self.keep_running()
        return _nothing

    def _terminate(self, fault: Fault) -> Undo | None:
        target = self._target(fault)
        return _nothing if target and send(target[1], signal.SIGTERM) else None

    def _stop(self, fault: Fault) -> Undo | None:
        target = self._target(fault)
        if target is None or not send(target[1], signal.SIGSTOP):
            return None
        self._stopped.add(target[1])
        return lambda: self._continue(target[1])

    def _continue(self, pid: int) -> None:
        # Valkey overwrites its environment with its title, so the environment does not identify it.
        if pid in children_of(self._stack.supervisor.pid).values() or self._stack.is_ours(pid):
            send(pid, signal.SIGCONT)

    def _second_worker(self, fault: Fault) -> Undo:
        worker = self._stack.run("worker")
        return worker.kill if fault.what[0] == "kill" else worker.terminate

    # --- failpoints and clock ---

    def _fail(self, fault: Fault) -> Undo:
        point, _, said = fault.what[0].partition("=")
        return self._switch(point, said)

    def _skew(self, fault: Fault) -> Undo:
        return self._switch("clock", f"shift:{fault.what[0]}")

    def _switch(self, point: str, said: str) -> Undo:
        self._switched_on[point] = said
        self._write_failpoints()

        def off() -> None:
            self._switched_on.pop(point, None)
            self._write_failpoints()
            for pid in children_of(self._stack.supervisor.pid).values():
                self._continue(pid)  # the process may have stopped itself

        return off

    def _write_failpoints(self) -> None:
        text = "\n".join(f"{point}={said}" for point, said in self._switched_on.items())
        new = self._failpoints.with_suffix(".new")
        new.write_text(text)
        new.replace(self._failpoints)

    # --- disk ---

    def _fill_disk(self, _fault: Fault) -> Undo | None:
        if self._disk is None or self._disk_is_broken:
            return None
        self._disk.fill()
        return self._free_disk

    def _free_disk(self) -> None:
        """Remove what fills the disk; repairing a broken one does that later."""
        if self._disk is not None and not self._disk_is_broken:
            self._disk.free()

    def _make_disk_read_only(self, _fault: Fault) -> Undo | None:
        if self._disk is None or self._disk_is_broken:
            return None
        self._disk.make_read_only(pid for pid in self._pids() if pid not in self._stopped)
        self._disk_is_broken = True
        return self._repair_disk

    def _pids(self) -> list[int]:
        own = [process.pid for process in self._stack.processes if process.poll() is None]
        return [*children_of(self._stack.supervisor.pid).values(), *own]

    def _repair_disk(self) -> None:
        """Repair a broken disk, which no process may use meanwhile, and start the service again."""
        if self._disk is None or not self._disk_is_broken:
            return
        for process in self._stack.processes:
            process.kill()
            process.wait()
        self._over.set()  # the locks that this process holds are files of that disk
        self._disk.make_writable()
        self._over.clear()
        self._disk_is_broken = False
        self._disk.free()
        self.keep_running()

    # --- queue and locks ---

    def _take_queue_away(self, _fault: Fault) -> Undo | None:
        return self._tamperer.bring_back if self._tamperer.take_away() else None

    def _break_queue(self, fault: Fault) -> Undo | None:
        return self._tamperer.repair if self._tamperer.break_as(fault.what[0]) else None

    def _delay_messages(self, _fault: Fault) -> Undo:
        withheld = self._tamperer.withhold()
        return lambda: self._tamperer.put_back(withheld)

    def _hold(self, hold: Callable[[threading.Event], None], _fault: Fault) -> Undo:
        enough = threading.Event()
        threading.Thread(target=hold, args=(enough,), daemon=True).start()
        return enough.set

    def _hold_turn(self, enough: threading.Event) -> None:
        with suppress(OSError):  # the disk is full or read-only
            turnstile = Turnstile(self._database)
            with turnstile.turn():
                self._wait(enough)
            turnstile.close()

    def _hold_database(self, enough: threading.Event) -> None:
        connection = sqlite3.connect(self._database, timeout=0.5, isolation_level=None)
        with suppress(sqlite3.OperationalError):
            connection.execute("BEGIN IMMEDIATE")
            self._wait(enough)
            connection.execute("ROLLBACK")
        connection.close()

    def _wait(self, enough: threading.Event) -> None:
        while not enough.wait(0.05) and not self._over.is_set():
            pass


def _nothing() -> None:
    """End a fault that is over at once: there is nothing to do."""


def _done(was_done: bool) -> Undo | None:
    return _nothing if was_done else None


def _action(said: str) -> str:
    return said.partition("=")[2].partition(":")[0]
