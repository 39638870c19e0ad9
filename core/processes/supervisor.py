"""A tree of processes: starts its children, watches, restarts and stops them.

One thread does everything. The kernel ends a child when the *thread* that spawned it ends
(core/processes/lifeline.py), and a `preexec_fn` is safe only if no second thread can hold a lock at the fork.
"""

import os
import select
import signal
import subprocess  # nosec B404 # commands are lists of words
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from core.processes import heartbeats
from core.processes.lifeline import die_with_parent
from core.settings import Settings
from core.telemetry.logging import get_logger

READY_SECONDS = 60.0
DEATHS_BEFORE_READY = 3
"""One more and the service is given up: what dies at every start is set up wrongly, and a restart cures nothing."""

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 10.0
STEADY_SECONDS = 30.0
"""A child that ran for so long is restarted as if it had never died."""

STARTING_FACTOR = 4
"""So many times longer may a process be silent that has not beaten yet: on a busy machine, to load takes long."""

LONGEST_PAUSE_SECONDS = 1.0
STARTING_PAUSE_SECONDS = 0.1
SHORTEST_PAUSE_SECONDS = 0.02
KILL_SECONDS = 1.0
"""Time that the kernel is given to end what was sent SIGKILL; only a process stuck in a device takes any."""

SAME_WISH_SECONDS = 0.2
"""Two signals this close are one wish: on a Ctrl-C many wrappers pass on what the terminal has sent already."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """What is to run, and how it is to be stopped."""

    name: str
    command: Sequence[str]
    stop_order: int
    """The lowest are stopped first, those of the same at once."""
    grace_seconds: float
    """Time between SIGTERM and SIGKILL, and what those stopped before it have left of theirs."""
    has_heartbeat: bool = True
    """True: it is ended when it has not beaten (core/processes/heartbeats.py) for longer than `silent_seconds`."""
    socket: Path | None = None
    """A socket that it listens on. A stale one is removed first; before the service is ready, the children after
    this one are started only when it is there."""
    output: Path | None = None
    """Where its output goes; None: to the supervisor's own. For programs that do not log in Giro's format."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What it has beside, or instead of, the environment of all children."""
    descriptors: Sequence[int] = ()
    """Open descriptors of the supervisor that it keeps under the same numbers."""


@dataclass(slots=True)
class Backoff:
    """How long to wait before a restart: doubling from death to death, from the start again after a steady run."""

    deaths_in_a_row: int = 0

    def delay_after(self, uptime_seconds: float) -> float:
        """Count a death after `uptime_seconds`, and say in how many seconds to start again."""
        if uptime_seconds >= STEADY_SECONDS:
            self.deaths_in_a_row = 0
        # Bounded before it is raised to: a child that dies for a year must not overflow the float.
        doublings = min(self.deaths_in_a_row, 10)
        self.deaths_in_a_row += 1
        return float(min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2**doublings))


@dataclass(slots=True)
class Silence:
    """How long a heartbeat has not been renewed, in time during which the supervisor itself was awake.

    Not the file's age: when the clock is set or the machine wakes up, every heartbeat is old at once, and all
    processes would be ended for nothing.
    """

    seconds: float = 0.0
    last_beat_ns: int | None = None

    def look(self, beat_ns: int | None, elapsed: float) -> None:
        """Look at the time of the last beat, `elapsed` seconds after the last look."""
        if beat_ns is not None and beat_ns != self.last_beat_ns:
            self.seconds, self.last_beat_ns = 0.0, beat_ns
        else:
            self.seconds += elapsed

    def is_longer_than(self, seconds: float) -> bool:
        """Say whether a process counts as lost; one that starts has more time, or a slow start would never end."""
        return self.seconds > seconds * (STARTING_FACTOR if self.last_beat_ns is None else 1)


@dataclass(slots=True)
class _Slot:
    """A place in the tree: a child, and the process that holds the place now."""

    child: Child
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_due_at: float = 0.0
    """Both on the monotonic clock."""
    backoff: Backoff = field(default_factory=Backoff)
    silence: Silence = field(default_factory=Silence)
    deaths: int = 0

    @property
    def runs(self) -> bool:
        return self.process is not None

    def start(self, environment: Mapping[str, str]) -> None:
        """Start the child's process, in its own session and process group; OSError or SubprocessError if not."""
        self.started_at = time.monotonic()
        self.silence = Silence()
        child = self.child
        if child.socket is not None:
            child.socket.unlink(missing_ok=True)
        with ExitStack() as stack:
            output = stack.enter_context(child.output.open("wb")) if child.output is not None else None
            self.process = subprocess.Popen(  # nosec B603 # a list of words, and no shell
                child.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**environment, **child.environment},
                pass_fds=child.descriptors,
                # A Ctrl-C at the terminal reaches the supervisor alone, which stops the others in order.
                start_new_session=True,
                preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509 - there is one thread
            )

    def ask_to_stop(self) -> None:
        """Send SIGTERM, and wake up what was stopped by SIGSTOP, or it could not obey."""
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGTERM)
            _signal_group(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Send SIGKILL to the process and to everything that it has forked."""
        if self.process is not None:
            _signal_group(self.process.pid, signal.SIGKILL)

    def ended(self, exit_code: int) -> None:
        """Take note that the process was reaped, and end what it left behind in its group.

        The number of a group is not given to a new process while the group has members, and one without members
        was reaped a moment ago: the signal cannot reach a stranger.
        """
        assert self.process is not None
        _signal_group(self.process.pid, signal.SIGKILL)
        self.process.returncode = exit_code  # else Popen would wait for it again
        self.process = None

    def last_words(self) -> str | None:
        """Read the end of the child's own output, if that is kept."""
        if self.child.output is None:
            return None
        with suppress(OSError):
            return self.child.output.read_bytes()[-500:].decode(errors="replace").strip() or None
        return None


class _Signals:
    """The signals that arrive while it is entered: which wishes were expressed, and a `wait` that they end.

    A signal that arrives between looking at a flag and going to sleep is not missed: the interpreter has
    written a byte into the pipe, so that the sleep ends at once. Afterwards the wishes are ignored, not restored:
    one that comes too late, as all is stopped, must not make a death of an orderly end.
    """

    def __init__(self) -> None:
        self.stop_asked_by: signal.Signals | None = None
        self.hurry = False
        self._asked_at = 0.0
        self._wishes = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            self._wishes.append(signal.SIGHUP)  # under nohup, a closed terminal is no wish to stop

    def __enter__(self) -> Self:
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        os.set_blocking(self._write_end, False)
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for wish in self._wishes:
            signal.signal(wish, self._on_wish)
        # An ignored SIGCHLD would not wake anybody up, and would have the kernel throw exit statuses away.
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _t: TracebackType | None
    ) -> None:
        for wish in self._wishes:
            signal.signal(wish, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.close(self._read_end)
        os.close(self._write_end)

    def wait(self, seconds: float) -> None:
        """Sleep for `seconds`, or until a signal arrives."""
        if select.select([self._read_end], [], [], seconds)[0]:
            with suppress(BlockingIOError):
                os.read(self._read_end, 4096)

    def _on_wish(self, number: int, _frame: FrameType | None) -> None:
        if self.stop_asked_by is None:
            self.stop_asked_by, self._asked_at = signal.Signals(number), time.monotonic()
        elif time.monotonic() - self._asked_at > SAME_WISH_SECONDS:
            self.hurry = True


class Supervisor:
    """Keeps `children` running from `run` until a signal asks it to stop. For the main thread of its process.

    It reaps every child of the process, orphans that it inherits as process 1 of a container included.
    """

    def __init__(
        self,
        settings: Settings,
        children: Sequence[Child],
        *,
        environment: Mapping[str, str],
        missing: Callable[[], str | None],
        announce: Callable[[], None],
        forget: Callable[[int], None],
        before_restart: Callable[[], None],
    ) -> None:
        """`missing` says what the service still lacks to be ready, or None; `announce` is called once, when it is.

        `forget` is called with the number of each child's process that has ended. `before_restart` is called before a
        child is started again; an exception of it ends the service, for what no restart cures.
        """
        self._settings = settings
        self._missing = missing
        self._announce = announce
        self._forget = forget
        self._before_restart = before_restart
        self._slots = [_Slot(child) for child in children]
        self._environment = environment
        self._signals = _Signals()
        self._ready = False
        self._stopping = False
        self._looked_at = 0.0

    def run(self) -> str | None:
        """Run the children until a stop is asked for, and stop them.

        Returns None, or one line that says why the service was given up before it was ready. Raises what
        `before_restart` raises, once the children are stopped.
        """
        with self._signals:
            try:
                return self._keep_running()
            finally:
                self._stop()

    def _keep_running(self) -> str | None:
        started_at = self._looked_at = time.monotonic()
        while self._signals.stop_asked_by is None:
            self._reap()
            self._start_what_is_due()
            self._end_what_is_silent()
            if not self._ready and (problem := self._become_ready(time.monotonic() - started_at)):
                return problem
            self._signals.wait(self._pause())
        return None

    def _become_ready(self, seconds: float) -> str | None:
        """See whether the service has become ready, or return why it is given up after these `seconds`."""
        missing: str | None = "not everything has been started"
        for slot in self._slots:
            if slot.deaths > DEATHS_BEFORE_READY:
                return f"{slot.child.name} died {slot.deaths} times before the service was ready; the log says how"
        if all(slot.runs for slot in self._slots):
            missing = self._missing()
        if missing is None:
            self._ready = True
            log.info("service_ready", seconds=round(seconds, 3))
            self._announce()
        elif seconds > READY_SECONDS:
            return f"the service was not ready within {READY_SECONDS:.0f} s: {missing}"
        return None

    def _pause(self) -> float:
        """Seconds until there is something to do that no signal announces."""
        longest = min(LONGEST_PAUSE_SECONDS, self._settings.silent_seconds / 4)
        pauses = [longest if self._ready else STARTING_PAUSE_SECONDS]
        now = time.monotonic()
        pauses += [slot.start_due_at - now for slot in self._slots if not slot.runs]
        return max(SHORTEST_PAUSE_SECONDS, min(pauses))

    def _start_what_is_due(self) -> None:
        for slot in self._slots:
            if not slot.runs and time.monotonic() >= slot.start_due_at:
                self._start(slot)
            listens_on = slot.child.socket
            if not self._ready and listens_on is not None and not listens_on.exists():
                return  # those that come after it would fail to connect, and come back late

    def _start(self, slot: _Slot) -> None:
        if slot.deaths:
            self._before_restart()
        try:
            slot.start(self._environment)
        except (OSError, subprocess.SubprocessError) as error:
            self._note_death(slot, {"error": str(error)})
            return
        assert slot.process is not None
        log.info("child_started", child=slot.child.name, pid=slot.process.pid)

    def _reap(self) -> None:
        """Collect everything that has died: ours, and orphans, which nobody else would."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for slot in self._slots:
                if slot.process is not None and slot.process.pid == pid:
                    exit_code = os.waitstatus_to_exitcode(status)
                    slot.ended(exit_code)
                    self._forget(pid)
                    self._note_death(slot, _how(exit_code))

    def _note_death(self, slot: _Slot, how: Mapping[str, object]) -> None:
        if self._stopping:
            log.info("child_stopped", child=slot.child.name, **how)
            return
        uptime = time.monotonic() - slot.started_at
        delay = slot.backoff.delay_after(uptime)
        slot.start_due_at = time.monotonic() + delay
        slot.deaths += 1
        details = {**how, "uptime_seconds": round(uptime, 3), "restart_in_seconds": delay}
        if said := slot.last_words():
            details["said"] = said
        log.error("child_died", child=slot.child.name, **details)

    def _end_what_is_silent(self) -> None:
        now = time.monotonic()
        # Longer gaps are ones in which the supervisor itself did not run: a paused container, a debugger. The
        # children may have been paused too and had no chance to beat.
        elapsed, self._looked_at = min(now - self._looked_at, 2 * LONGEST_PAUSE_SECONDS), now
        for slot in self._slots:
            if slot.process is None or not slot.child.has_heartbeat:
                continue
            # It was not silent before it was there.
            lived = min(elapsed, now - slot.started_at)
            slot.silence.look(heartbeats.last_beat_ns(self._settings.run_dir, slot.process.pid), lived)
            if slot.silence.is_longer_than(self._settings.silent_seconds):
                log.error("child_silent", child=slot.child.name, seconds=round(slot.silence.seconds, 3))
                slot.kill()
                slot.silence = Silence()  # so that it is killed again, rather than at every look, if it cannot die

    def _stop(self) -> None:
        self._stopping = True
        asked_by = self._signals.stop_asked_by
        log.info("service_stopping", signal=asked_by.name if asked_by else None)
        deadline = time.monotonic()
        in_turn = sorted(self._slots, key=_stop_order)
        for _, together in groupby(in_turn, key=_stop_order):
            slots = list(together)
            # Time that some do not need goes to the next: the sum is bounded, and a worker on a busy machine may
            # need more than its own, while the API seldom needs any.
            deadline += max(slot.child.grace_seconds for slot in slots)
            self._stop_together(slots, deadline)
        for slot in self._slots:
            _remove_traces(slot.child)
        log.info("service_stopped")

    def _stop_together(self, slots: Sequence[_Slot], deadline: float) -> None:
        self._reap()
        for slot in slots:
            slot.ask_to_stop()
        asked_at = time.monotonic()
        self._wait_for(slots, deadline, until=lambda: self._signals.hurry)
        for slot in slots:
            if slot.runs:
                seconds = round(time.monotonic() - asked_at, 3)
                log.warning("child_killed", child=slot.child.name, after_seconds=seconds)
                slot.kill()
        self._wait_for(slots, time.monotonic() + KILL_SECONDS, until=lambda: False)

    def _wait_for(self, slots: Sequence[_Slot], deadline: float, *, until: Callable[[], bool]) -> None:
        """Wait until the processes of `slots` are reaped; at most to the `deadline` (monotonic), or until `until`."""
        while any(slot.runs for slot in slots) and not until() and (left := deadline - time.monotonic()) > 0:
            self._signals.wait(left)
            self._reap()


def _stop_order(slot: _Slot) -> int:
    return slot.child.stop_order


def _remove_traces(child: Child) -> None:
    for trace in (child.socket, child.output):
        with suppress(OSError):
            if trace is not None:
                trace.unlink(missing_ok=True)


def _signal_group(group: int, number: signal.Signals) -> None:
    # Nobody is left in it, or (macOS says this differently) nobody but a process that waits to be reaped.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _how(exit_code: int) -> dict[str, object]:
    """Say how a process ended, for the log; negative codes are signals, as in subprocess."""
    if exit_code >= 0:
        return {"exit_status": exit_code}
    try:
        return {"signal": signal.Signals(-exit_code).name}
    except ValueError:
        return {"signal": -exit_code}  # a real-time signal has no name
