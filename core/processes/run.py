"""How the service is run: as one supervised tree, with the lock that keeps a second one off its data, or in parts."""

import errno
import fcntl
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx2

from core.files.locks import sign, signature
from core.processes import heartbeats
from core.processes.data_folder import require_data_folder
from core.processes.lifeline import never_dump_core
from core.processes.parts import PROCESSES, child_environment, forget, listener_of, part, service_children
from core.processes.supervisor import Child, Supervisor
from core.settings import Settings, SettingsError, variable
from core.storage.sqlite.engine import Database, DatabaseError
from core.storage.sqlite.turnstile import settlement_lock
from core.telemetry.logging import configure_logging

NEVER_READY = 1
CANNOT_START = 2
HELD = 3
"""Exit statuses of `run`, next to 0."""

PROBE_SECONDS = 1.0
LOCK_ATTEMPTS = 5
LOCK_PAUSE_SECONDS = 0.02


class StartRefused(Exception):
    """Nothing was started; the message is one line for the person who tried, `status` what the process exits with."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def run(
    settings: Settings, children: Sequence[Child] | None = None, *, prepare: Callable[[], None] = lambda: None
) -> int:
    """Run the whole service in the foreground until SIGTERM, SIGINT or SIGHUP; a second signal ends it at once.

    Returns the exit status: 0 stopped as asked, 1 (NEVER_READY) given up before it was ready, 2 (CANNOT_START) a
    setting or the database does not allow a start, 3 (HELD) another supervisor holds the database. Each but 0 leaves
    one line on standard error. `prepare` is called once the database is held and before anything runs. `children`
    replaces what runs (tests); else it is the service, with port 0 replaced by a free one.
    """

    def start() -> str | None:
        with hold_database(settings) as lock:
            chosen = settings.model_copy(update={"port": bindable_port(settings.host, settings.port)})
            _check_metrics_ports(chosen, PROCESSES)
            sign(lock, f"`giro up` at {api_url(chosen)}")
            prepare()
            with _probe(chosen) as missing, listener_of(chosen) as listener:
                service = service_children(chosen, listener) if children is None else children
                return _supervise(chosen, service, missing, partial(_announce, chosen))

    return _exit_status(settings, start)


def run_part(settings: Settings, name: str, *, prepare: Callable[[], None] = lambda: None) -> int:
    """Run one part of the service (api, settlement, jobs or scheduler) under its own supervisor, as `run` does.

    The database is not held: the parts share it, on one machine or in containers of one machine, and whatever must
    be alone has its own lock. `alone` sees a part by its heartbeat. Queue server and migrations are somebody
    else's.
    """

    def start() -> str | None:
        if name == "api":
            bindable_port(settings.host, settings.port)
        _check_metrics_ports(settings, [name])
        prepare()
        if name != "api":
            return _supervise(settings, part(settings, name), partial(_silent, settings, name), lambda: None)
        with _probe(settings) as missing, listener_of(settings) as listener:
            return _supervise(settings, part(settings, name, listener), missing, lambda: None)

    return _exit_status(settings, start)


def _exit_status(settings: Settings, start: Callable[[], str | None]) -> int:
    """Run what `start` starts, and say in one line why it did not."""
    os.umask(0o077)
    never_dump_core()
    configure_logging(settings, process="supervisor")
    try:
        require_data_folder(settings)
        heartbeats.forget_stale(settings.run_dir)
        problem = start()
    except StartRefused as refusal:
        return _say(str(refusal), refusal.status)
    except (SettingsError, DatabaseError) as error:
        return _say(str(error), CANNOT_START)
    return _say(problem, NEVER_READY) if problem else 0


def _supervise(
    settings: Settings, children: Sequence[Child], missing: Callable[[], str | None], announce: Callable[[], None]
) -> str | None:
    return Supervisor(
        settings,
        children,
        environment=child_environment(settings),
        missing=missing,
        announce=announce,
        forget=partial(forget, settings),
        before_restart=partial(_require_schema, settings),
    ).run()


def _require_schema(settings: Settings) -> None:
    """Raise DatabaseError where another version has migrated the database: what is started again would end again."""
    database = Database(settings)
    try:
        revision = database.schema_revision()
    except DatabaseError:
        return  # it cannot be read now, and may be again when the child has started
    finally:
        database.close()
    database.require_revision(revision)


def _silent(settings: Settings, name: str) -> str | None:
    """Say whether a part has not beaten yet, under its name or as one that stands by."""
    return None if heartbeats.here(settings.run_dir).keys() & {name, "standby"} else "it has not beaten yet"


@contextmanager
def _probe(settings: Settings) -> Iterator[Callable[[], str | None]]:
    """Yield what asks the API whether it is ready."""
    # Without the environment's proxies: the question is for this machine alone.
    with httpx2.Client(trust_env=False, timeout=PROBE_SECONDS, headers={"Connection": "close"}) as client:
        yield partial(_missing, client, f"{api_url(settings)}/health/ready")


def _missing(client: httpx2.Client, url: str) -> str | None:
    """Ask the API whether it is ready: None if so, else what it said. Takes up to PROBE_SECONDS."""
    try:
        answer = client.get(url)
    except httpx2.HTTPError as error:
        return f"GET {url}: {str(error) or type(error).__name__}"
    return None if answer.status_code == 200 else f"GET {url}: {answer.status_code} {answer.text[:300]}"


def api_url(settings: Settings) -> str:
    """Where this machine reaches the API: a wildcard address is nothing that one can connect to everywhere."""
    # nosemgrep: listening-is-a-setting - compared only
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104  # nosec B104
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def _check_metrics_ports(settings: Settings, names: Sequence[str]) -> None:
    for name in names:
        setting = f"metrics_port_{name}"
        port: int = getattr(settings, setting)
        if port != 0:
            bindable_port(settings.metrics_host, port, names=(variable("metrics_host"), variable(setting)))


def bindable_port(host: str, port: int, *, names: tuple[str, str] = ("GIRO_HOST", "GIRO_PORT")) -> int:
    """Check that a process will be able to listen there, and return the port: a free one if `port` is 0.

    Raises StartRefused naming the setting, out of the `names` of those for host and port. A program that takes the
    port after the check makes the process die, and that is reported too, only less clearly.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise StartRefused(CANNOT_START, f"{names[0]}: {host} is no address here ({error.strerror})") from None
    for family, kind, protocol, _, address in addresses:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((address[0], port, *address[2:]))
                port = probe.getsockname()[1]
        except OSError as error:
            name = names[error.errno in (errno.EADDRINUSE, errno.EACCES)]
            message = f"{name}: cannot listen on {host}:{port} ({error.strerror})"
            raise StartRefused(CANNOT_START, message) from None
    return port


@contextmanager
def hold_database(settings: Settings) -> Iterator[int]:
    """Hold the supervisor's lock of the database, and yield its descriptor. StartRefused if another one holds it.

    The file stays when the lock is released: two that removed and made it would each lock a file of their own.
    """
    path = _lock_path(settings)
    try:
        for folder in (path.parent, settings.run_dir):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Closed in the children: the lock must be free when the supervisor dies, even if a child outlives it.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        name = error.filename or path
        raise StartRefused(CANNOT_START, f"GIRO_DATA_DIR: cannot use {name} ({error.strerror})") from None
    try:
        _lock(descriptor, settings.database_path)
        yield descriptor
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, database: Path) -> None:
    for attempt in range(LOCK_ATTEMPTS):
        if attempt > 0:
            time.sleep(LOCK_PAUSE_SECONDS)  # it may be no more than somebody who looks (`holder`)
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The name of a holder that was killed is worse than none, until this one has signed.
            os.ftruncate(descriptor, 0)
            return
    raise _held(database, signature(descriptor))


def _held(database: Path, by: str) -> StartRefused:
    return StartRefused(HELD, f"{database} is held by another Giro: {by}; stop it first")


@contextmanager
def alone(settings: Settings, what: str) -> Iterator[None]:
    """Hold the database for `what`, such as "`giro restore`", with no other process of Giro beside it.

    Raises StartRefused (HELD), which names the process that runs: a supervisor, a settlement worker, or another part.
    """
    with hold_database(settings) as lock:
        sign(lock, what)
        with no_part_beside(settings, what):
            yield


@contextmanager
def no_part_beside(settings: Settings, what: str) -> Iterator[None]:
    """Do the same as `alone`, for a caller that holds the supervisor's lock already.

    The settlement worker is found by its lock, and the other parts by their heartbeats: they have no lock, and neither
    has a worker of an older version that stands by, which would settle as soon as the migration is done.
    """
    lock = settlement_lock(settings.database_path)
    try:
        if not lock.take(what):
            raise _held(settings.database_path, lock.holder())
        for part_that_runs in heartbeats.fresh(settings.run_dir, settings.silent_seconds):
            raise _held(settings.database_path, part_that_runs)
        yield
    finally:
        lock.close()


def holder(settings: Settings) -> str | None:
    """Say which supervisor runs the service on this database; None if none does. Nothing is written, no file made."""
    try:
        descriptor = os.open(_lock_path(settings), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        # Shared, so that two that look do not take each other for a supervisor; one that starts now tries again.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return signature(descriptor)
    finally:
        os.close(descriptor)
    return None


def _lock_path(settings: Settings) -> Path:
    return settings.database_path.with_name(f"{settings.database_path.name}.supervisor.lock")


def _announce(settings: Settings) -> None:
    url = api_url(settings)
    ports = {name: getattr(settings, f"metrics_port_{name}") for name in PROCESSES}
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
