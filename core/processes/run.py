"""Runs the service under a supervisor: all of it as one tree of processes, or one part of it."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

import httpx2

from core.files.locks import sign
from core.processes import heartbeats
from core.processes.addresses import (
    api_url,
    bindable_port,
    check_metrics_ports,
    check_operator_port,
    metrics_url,
    operator_url,
)
from core.processes.child import Child
from core.processes.data_folder import require_data_folder
from core.processes.database_hold import hold_database
from core.processes.exit_statuses import CANNOT_START, NEVER_READY, StartRefused
from core.processes.lifeline import never_dump_core
from core.processes.parts import PROCESSES, child_environment, forget, listeners_of, part, service_children
from core.processes.supervisor import Missing, Supervisor
from core.settings import Settings, SettingsError
from core.storage.engines import DatabaseError, open_engine
from core.telemetry.logging import configure_logging
from core.telemetry.tracing import check_tracing

PROBE_SECONDS = 1.0


def run(
    settings: Settings, children: Sequence[Child] | None = None, *, prepare: Callable[[], None] = lambda: None
) -> int:
    """Run the whole service in the foreground until SIGTERM, SIGINT or SIGHUP; a second signal ends it at once.

    Returns the exit status: 0 if it was asked to stop, 1 (NEVER_READY) if the start failed, 2 (CANNOT_START) if a
    setting or the database does not allow a start, and 3 (HELD) if another supervisor holds the database. All but 0
    print one line on standard error. `prepare` is called when the database is held and before anything runs. `children`
    replaces the service (for tests). A port 0 is replaced by a free one.
    """

    def start() -> str | None:
        with hold_database(settings) as lock:
            chosen = settings.model_copy(update={"port": bindable_port(settings.host, settings.port)})
            check_operator_port(chosen)
            check_metrics_ports(chosen, PROCESSES)
            sign(lock, f"`giro up` at {api_url(chosen)}")
            prepare()
            with _probe(chosen) as missing, listeners_of(chosen) as listeners:
                service = service_children(chosen, listeners) if children is None else children
                return _supervise(chosen, service, missing, partial(_announce, chosen))

    return _exit_status(settings, start)


def run_part(settings: Settings, name: str, *, prepare: Callable[[], None] = lambda: None) -> int:
    """Run one part of the service (api, settlement, jobs or scheduler) under its own supervisor, as `run` does.

    The database is not held: the parts share it, on one machine or in containers of one machine. Activities that must
    be alone have their own lock, and `alone` finds a part by its heartbeat. The queue server and migrations are run
    separately.
    """

    def start() -> str | None:
        if name == "api":
            bindable_port(settings.host, settings.port)
            check_operator_port(settings)
        check_metrics_ports(settings, [name])
        prepare()
        if name != "api":
            return _supervise(settings, part(settings, name), partial(_silent, settings, name), lambda: None)
        with _probe(settings) as missing, listeners_of(settings) as listeners:
            return _supervise(settings, part(settings, name, listeners), missing, lambda: None)

    return _exit_status(settings, start)


def _exit_status(settings: Settings, start: Callable[[], str | None]) -> int:
    """Call `start`, and print one line if it fails. Returns the exit status."""
    os.umask(0o077)
    never_dump_core()
    configure_logging(settings, process="supervisor")
    try:
        check_tracing(settings)  # the processes would end again and again for the same reason
        require_data_folder(settings)
        heartbeats.forget_stale(settings.run_dir)
        problem = start()
    except StartRefused as refusal:
        return _say(str(refusal), refusal.status)
    except (SettingsError, DatabaseError) as error:
        return _say(str(error), CANNOT_START)
    return _say(problem, NEVER_READY) if problem else 0


def _supervise(
    settings: Settings, children: Sequence[Child], missing: Callable[[], Missing | None], announce: Callable[[], None]
) -> str | None:
    return Supervisor(
        settings,
        children,
        environment=child_environment(settings),
        missing=missing,
        announce=announce,
        say=partial(_say, status=NEVER_READY),
        forget=partial(forget, settings),
        before_restart=partial(_require_schema, settings),
    ).run()


def _require_schema(settings: Settings) -> None:
    """Raise DatabaseError if another version has migrated the database: a restarted process would end again."""
    database = open_engine(settings)
    try:
        revision = database.schema_revision()
    except DatabaseError:
        return  # it may be readable again when the child has started
    finally:
        database.close()
    database.require_revision(revision)


def _silent(settings: Settings, name: str) -> Missing | None:
    """Return a message if a part has not beaten yet, under its name or as a standby."""
    return None if heartbeats.here(settings.run_dir).keys() & {name, "standby"} else Missing("it has not beaten yet")


@contextmanager
def _probe(settings: Settings) -> Iterator[Callable[[], Missing | None]]:
    """Yield a function that asks the API whether it is ready."""
    # Without the environment's proxies, because the API is on this machine.
    with httpx2.Client(trust_env=False, timeout=PROBE_SECONDS, headers={"Connection": "close"}) as client:
        yield partial(_missing, client, settings)


def _missing(client: httpx2.Client, settings: Settings) -> Missing | None:
    """Ask the API whether it is ready. Returns None, or what fails if it is not. Takes up to twice PROBE_SECONDS."""
    url = f"{api_url(settings)}/health/ready"
    try:
        answer = client.get(url)
    except httpx2.HTTPError as error:
        return Missing(f"GET {url}: {str(error) or type(error).__name__}")
    if answer.status_code == 200:
        return None
    failing = _failing(client, settings)
    why = f"failing checks: {', '.join(failing)}" if failing else "`check_failed` in the log names the failing check"
    return Missing(f"GET {url}: {answer.status_code}, {why}", answers=True)


def _failing(client: httpx2.Client, settings: Settings) -> list[str]:
    """Return the checks that fail, from the metrics port, which shows them without a token; none without that port."""
    if not settings.metrics_port_api:
        return []
    try:
        checks = client.get(f"{metrics_url(settings)}/health").json()["checks"]
        return [name for name, check in checks.items() if check["status"] == "unavailable"]
    except (httpx2.HTTPError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _announce(settings: Settings) -> None:
    url = api_url(settings)
    ports = {name: getattr(settings, f"metrics_port_{name}") for name in PROCESSES}
    metrics = ", ".join(f"{port} ({name})" for name, port in ports.items() if port)
    lines = [
        "Giro is ready.",
        f"  API      {url}",
        *([f"  Operator {own}"] if (own := operator_url(settings)) else []),
        f"  Docs     {url}/docs",
        f"  Metrics  {settings.metrics_host}, ports {metrics}" if metrics else "  Metrics  none",
        f"  Data     {settings.database_path}",
        "  Ctrl-C stops it.",
    ]
    # A closed output must not end the service.
    with suppress(OSError):
        print("\n".join(lines), flush=True)


def _say(problem: str, status: int) -> int:
    with suppress(OSError):
        print(f"giro: {problem}", file=sys.stderr, flush=True)
    return status
