"""One child of the supervisor: its description, its process, and what decides when it is restarted or ended."""

import os
import signal
import subprocess  # nosec B404 # commands are lists of words
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from core.processes.lifeline import die_with_parent

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 10.0
STEADY_SECONDS = 30.0
"""A child that has run for this long is restarted as if it had never died."""

STARTING_FACTOR = 4
"""A process that has not beaten yet may be silent this many times longer: on a busy machine, loading takes long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """The description of a child process: how to run it, and how to stop it."""

    name: str
    command: Sequence[str]
    stop_order: int
    """Children with the lowest number are stopped first, those with the same number together."""
    grace_seconds: float
    """Time between SIGTERM and SIGKILL, in addition to the time that the children stopped before it did not use."""
    has_heartbeat: bool = True
    """If True, the child is killed after more than `silent_seconds` without a heartbeat
    (core/processes/heartbeats.py)."""
    socket: Path | None = None
    """A socket that it listens on. A stale one is removed first. Before the service is ready, the children after this
    one wait a moment for it."""
    is_needed: bool = True
    """Whether the service is ready only while it runs, and is given up if it dies at every start."""
    output: Path | None = None
    """The file for its output, for programs that do not log in Giro's format. None: the supervisor's own output."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that are added to, or replace, those of all children."""
    descriptors: Sequence[int] = ()
    """Open descriptors of the supervisor that it inherits under the same numbers."""


@dataclass(slots=True)
class Backoff:
    """The delay before a restart. It doubles with each death, and is reset after a steady run."""

    deaths_in_a_row: int = 0

    def delay_after(self, uptime_seconds: float) -> float:
        """Count a death after `uptime_seconds`, and return the seconds until the restart."""
        if uptime_seconds >= STEADY_SECONDS:
            self.deaths_in_a_row = 0
        # The exponent is bounded, so that a child that keeps dying for a year does not overflow the float.
        doublings = min(self.deaths_in_a_row, 10)
        self.deaths_in_a_row += 1
        return float(min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2**doublings))


@dataclass(slots=True)
class Silence:
    """The time since the last heartbeat, counted only while the supervisor itself was awake.

    The age of the file is not used: when the clock is set or the machine wakes up, every heartbeat is suddenly old, and
    all processes would be killed for no reason.
    """

    seconds: float = 0.0
    last_beat_ns: int | None = None

    def look(self, beat_ns: int | None, elapsed: float) -> None:
        """Process the time of the last beat, `elapsed` seconds after the previous call."""
        if beat_ns is not None and beat_ns != self.last_beat_ns:
            self.seconds, self.last_beat_ns = 0.0, beat_ns
        else:
            self.seconds += elapsed

    def is_longer_than(self, seconds: float) -> bool:
        """Return whether a process counts as lost. A starting one has more time, because a slow start must succeed."""
        return self.seconds > seconds * (STARTING_FACTOR if self.last_beat_ns is None else 1)


@dataclass(slots=True)
class Slot:
    """A place in the tree: a child, and its current process."""

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
        """Start the child's process, in its own session and process group. Raises OSError or SubprocessError."""
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
        """Send SIGTERM, and SIGCONT, because a process that is stopped by SIGSTOP could not react."""
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGTERM)
            _signal_group(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Send SIGKILL to the process and to everything that it has forked."""
        if self.process is not None:
            _signal_group(self.process.pid, signal.SIGKILL)

    def ended(self, exit_code: int) -> None:
        """Record that the process was reaped, and kill the rest of its process group.

        The number of a group is not reused while the group has members, and a group without members was reaped a moment
        ago. So the signal cannot reach another program.
        """
        assert self.process is not None
        _signal_group(self.process.pid, signal.SIGKILL)
        self.process.returncode = exit_code  # otherwise Popen would wait for it again
        self.process = None

    def last_words(self) -> str | None:
        """Read the end of the child's output, if it has its own file."""
        if self.child.output is None:
            return None
        with suppress(OSError):
            return self.child.output.read_bytes()[-500:].decode(errors="replace").strip() or None
        return None


def _signal_group(group: int, number: signal.Signals) -> None:
    # The group is empty, or only has a process that waits to be reaped (PermissionError on macOS).
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
