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
"""A child that ran for so long is restarted as if it had never died."""

STARTING_FACTOR = 4
"""So many times longer may a process be silent that has not beaten yet: on a busy machine, to load takes long."""


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
class Slot:
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


def _signal_group(group: int, number: signal.Signals) -> None:
    # Nobody is left in it, or (macOS says this differently) nobody but a process that waits to be reaped.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
