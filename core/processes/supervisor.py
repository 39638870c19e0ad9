"""The supervisor of a tree of processes: it starts, watches, restarts and stops its children.

One thread does everything. The kernel ends a child when the *thread* that spawned it ends
(core/processes/lifeline.py), and a `preexec_fn` is safe only if no second thread can hold a lock at the fork.
"""

import os
import signal
import subprocess  # nosec B404 # commands are lists of words
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import NamedTuple

from core.processes import heartbeats
from core.processes.child import Child, Silence, Slot
from core.processes.stop_signals import StopSignals
from core.settings import Settings
from core.telemetry.logging import get_logger

READY_SECONDS = 60.0
NOT_READY_SECONDS = 10.0
"""Time after which the supervisor says what a service that answers is missing."""

DEATHS_BEFORE_READY = 3
"""After one more death the service is given up: a child that dies at every start is set up wrongly."""

SOCKET_SECONDS = 2.0
"""Time that the children after one with a socket wait for it, at the start."""

LONGEST_PAUSE_SECONDS = 1.0
STARTING_PAUSE_SECONDS = 0.1
SHORTEST_PAUSE_SECONDS = 0.02
KILL_SECONDS = 1.0
"""Time that a process has to end after SIGKILL. Only a process that is stuck in a device needs any."""

log = get_logger(__name__)


class Missing(NamedTuple):
    """What a service that is not ready needs."""

    what: str
    answers: bool = False
    """Whether it answers all the same. Then it is not given up: on a full disk it still serves reads."""


class Supervisor:
    """Keeps `children` running until a signal asks it to stop. Use it in the main thread of its process.

    It reaps every child of the process, including orphans that it inherits as process 1 of a container.
    """

    def __init__(
        self,
        settings: Settings,
        children: Sequence[Child],
        *,
        environment: Mapping[str, str],
        missing: Callable[[], Missing | None],
        announce: Callable[[], None],
        say: Callable[[str], object] = lambda _problem: None,
        forget: Callable[[int], None],
        before_restart: Callable[[], None],
    ) -> None:
        """`missing` returns what the service still needs to be ready, or None. `announce` is called once it is ready.

        `say` tells the operator, once, what a service is missing that answers all the same.
        `forget` is called with the number of each child's process that has ended. `before_restart` is called before a
        child is started again. Its exceptions end the service, for errors that a restart cannot fix.
        """
        self._settings = settings
        self._missing = missing
        self._announce = announce
        self._say = say
        self._said = False
        self._forget = forget
        self._before_restart = before_restart
        self._slots = [Slot(child) for child in children]
        self._environment = environment
        self._signals = StopSignals()
        self._ready = False
        self._stopping = False
        self._looked_at = 0.0

    def run(self) -> str | None:
        """Run the children until a signal asks to stop, and stop them.

        Returns None, or one line with the reason why the service was given up before it was ready. Raises the
        exceptions of `before_restart`, once the children are stopped.
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
        """Check whether the service is ready. Returns the reason if it is given up after these `seconds`."""
        missing: Missing | None = Missing("not everything has been started")
        for slot in self._slots:
            if slot.child.is_needed and slot.deaths > DEATHS_BEFORE_READY:
                return f"{slot.child.name} died {slot.deaths} times before the service was ready; the log says how"
        if all(slot.runs for slot in self._slots if slot.child.is_needed):
            missing = self._missing()
        if missing is None:
            self._ready = True
            log.info("service_ready", seconds=round(seconds, 3))
            self._announce()
        elif missing.answers:
            self._tell(missing, seconds)
        elif seconds > READY_SECONDS:
            return f"the service was not ready within {READY_SECONDS:.0f} s: {missing.what}"
        return None

    def _tell(self, missing: Missing, seconds: float) -> None:
        """Say once what a service that answers is missing, unless it has only just started."""
        if not self._said and seconds > NOT_READY_SECONDS:
            self._said = True
            log.warning("service_not_ready", missing=missing.what)
            self._say(f"not ready: {missing.what}; reads are answered, and the service goes on trying")

    def _pause(self) -> float:
        """Return the seconds until the next check, which no signal announces."""
        longest = min(LONGEST_PAUSE_SECONDS, self._settings.silent_seconds / 4)
        pauses = [longest if self._ready else STARTING_PAUSE_SECONDS]
        now = time.monotonic()
        pauses += [slot.start_due_at - now for slot in self._slots if not slot.runs]
        return max(SHORTEST_PAUSE_SECONDS, min(pauses))

    def _start_what_is_due(self) -> None:
        for slot in self._slots:
            if not slot.runs and time.monotonic() >= slot.start_due_at:
                self._start(slot)
            if not self._ready and _may_still_listen(slot):
                return  # the children after it would not find it, and look again only after a pause

    def _start(self, slot: Slot) -> None:
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
        """Reap all processes that have died: the children, and inherited orphans."""
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

    def _note_death(self, slot: Slot, how: Mapping[str, object]) -> None:
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
        # In longer gaps the supervisor itself did not run: a paused container, a debugger. The children may have been
        # paused too, and could not beat.
        elapsed, self._looked_at = min(now - self._looked_at, 2 * LONGEST_PAUSE_SECONDS), now
        for slot in self._slots:
            if slot.process is None or not slot.child.has_heartbeat:
                continue
            # The silence cannot begin before the process has started.
            lived = min(elapsed, now - slot.started_at)
            slot.silence.look(heartbeats.last_beat_ns(self._settings.run_dir, slot.process.pid), lived)
            if slot.silence.is_longer_than(self._settings.silent_seconds):
                log.error("child_silent", child=slot.child.name, seconds=round(slot.silence.seconds, 3))
                slot.kill()
                # If it cannot die, it is killed again after the same time, and not at every check.
                slot.silence = Silence()

    def _stop(self) -> None:
        self._stopping = True
        asked_by = self._signals.stop_asked_by
        log.info("service_stopping", signal=asked_by.name if asked_by else None)
        deadline = time.monotonic()
        in_turn = sorted(self._slots, key=_stop_order)
        for _, together in groupby(in_turn, key=_stop_order):
            slots = list(together)
            # Time that some do not need goes to the next ones. The sum is bounded. A worker on a busy machine may need
            # more than its own time, while the API rarely needs any.
            deadline += max(slot.child.grace_seconds for slot in slots)
            self._stop_together(slots, deadline)
        for slot in self._slots:
            _remove_traces(slot.child)
        log.info("service_stopped")

    def _stop_together(self, slots: Sequence[Slot], deadline: float) -> None:
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

    def _wait_for(self, slots: Sequence[Slot], deadline: float, *, until: Callable[[], bool]) -> None:
        """Wait until the processes of `slots` are reaped, the `deadline` (monotonic) has passed, or `until` is true."""
        while any(slot.runs for slot in slots) and not until() and (left := deadline - time.monotonic()) > 0:
            self._signals.wait(left)
            self._reap()


def _stop_order(slot: Slot) -> int:
    return slot.child.stop_order


def _may_still_listen(slot: Slot) -> bool:
    """Return whether a child has just been started for the first time, and its socket does not exist yet."""
    listens_on = slot.child.socket
    is_new = slot.deaths == 0 and time.monotonic() < slot.started_at + SOCKET_SECONDS
    return listens_on is not None and is_new and not listens_on.exists()


def _remove_traces(child: Child) -> None:
    for trace in (child.socket, child.output):
        with suppress(OSError):
            if trace is not None:
                trace.unlink(missing_ok=True)


def _how(exit_code: int) -> dict[str, object]:
    """Describe for the log how a process ended. Negative codes are signals, as in subprocess."""
    if exit_code >= 0:
        return {"exit_status": exit_code}
    try:
        return {"signal": signal.Signals(-exit_code).name}
    except ValueError:
        return {"signal": -exit_code}  # a real-time signal has no name
