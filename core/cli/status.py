"""`giro status`: what runs on the database, where the API is, and what waits."""

import json
from collections.abc import Iterator
from datetime import datetime
from itertools import groupby
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from core.cli.clock import as_object
from core.cli.clock import state_of as state_of_clock
from core.cli.console import counted, one_line_errors, open_database, tables
from core.clock import now_us, to_us
from core.processes import heartbeats
from core.processes.addresses import api_url, published_url
from core.processes.database_hold import holder
from core.processes.heartbeats import Beat
from core.processes.parts import PROCESSES
from core.services import clocks
from core.settings import Settings, load_settings, of_compose
from core.storage import transfers as stored
from core.storage.engines import Engine
from core.storage.verifications import newest

app = typer.Typer()

COMPOSE = "compose"
"""The parts run in containers, as docker-compose.yml starts them."""
PARTS = "parts"
"""The parts run one by one, each with its own supervisor."""
UP = "up"
"""One `giro up` runs all parts."""


@app.command()
@one_line_errors
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the running processes, where the API is, and the pending transfers.

    It works next to a service, inside a container of a compose stack, and beside docker-compose.yml.
    """
    settings = load_settings()
    found = state_of(settings, open_database(settings))
    if as_json:
        print(json.dumps(found))
        return
    table = Table(box=None, show_header=False)
    for name, text in rows_of(found):
        table.add_row(name, Text(text))
    tables.print(table)


def state_of(settings: Settings, database: Engine) -> dict[str, Any]:
    """Read the state, as `--json` prints it."""
    library = database.library()
    with database.reading() as connection:
        backlog, verified, clock = stored.backlog(connection), newest(connection), clocks.state(connection)
    return {
        "database": database.place,
        "migration": database.schema_revision(),
        "sqlite": library.version,
        "sqlite_affected": library.is_affected,
        **_running(settings),
        "pending": backlog.pending,
        "oldest_pending_seconds": None if backlog.oldest_created_at is None else _age_of(backlog.oldest_created_at),
        "ledger": _as_verified(verified),
        "clock": as_object(clock),
    }


def _running(settings: Settings) -> dict[str, Any]:
    """Return how the service runs: all at once, part by part, or in containers; and the last beat of each process."""
    supervisor, beats = holder(settings), heartbeats.everywhere(settings.run_dir)
    alive = [beat for beat in beats if beat.age_seconds < settings.silent_seconds]
    how, url = None, None
    if supervisor:
        how = UP  # its signature names the address
    elif alive and all(beat.is_in_container for beat in alive):
        how, url = COMPOSE, published_url(of_compose("GIRO_PUBLISH"))
    elif alive:
        how, url = PARTS, api_url(settings)
    has_api = any(beat.name == "api" for beat in alive)
    return {
        "runs": how,
        "supervisor": supervisor,
        "api_url": url if has_api else None,
        "processes": [_as_json(beat, beat in alive) for beat in _shown(beats, alive)],
    }


def _shown(beats: list[Beat], alive: list[Beat]) -> list[Beat]:
    """Return all living processes, and of work that no living process does the one that died last."""
    names = {beat.name for beat in alive}
    dead: dict[str, Beat] = {}
    for beat in beats:
        if beat.name not in names:
            dead.setdefault(beat.name, beat)
    return sorted([*alive, *dead.values()], key=lambda beat: (beat.name, beat.host, beat.pid))


def _as_json(beat: Beat, is_alive: bool) -> dict[str, Any]:
    age = round(beat.age_seconds, 3)
    return {"name": beat.name, "host": beat.host, "process": int(beat.pid), "alive": is_alive, "age_seconds": age}


def rows_of(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Write the state as the rows of a table."""
    yield "database", f"{found['database']}, migration {found['migration']}"
    yield "SQLite", found["sqlite"] + (", affected by the WAL-reset bug" if found["sqlite_affected"] else "")
    yield "running", _as_running(found)
    if found["runs"] in (COMPOSE, PARTS):
        yield "API", _as_address(found)
    oldest = found["oldest_pending_seconds"]
    age = "" if oldest is None else f", the oldest for {oldest:.1f} s"
    yield "pending", f"{counted(found['pending'], 'transfer')}{age}"
    yield "ledger", found["ledger"]
    yield "clock", state_of_clock(found["clock"]["doubt"])
    by_name = {name: list(some) for name, some in groupby(found["processes"], lambda each: each["name"])}
    for name in dict.fromkeys((*PROCESSES, *by_name)):
        if name not in by_name:
            yield name, "not running"
        for process in by_name.get(name, ()):
            silent = "" if process["alive"] else ": silent"
            where = f"process {process['process']} on {process['host']}"
            yield name, f"alive {process['age_seconds']:.1f} s ago{silent}, {where}"


def _as_running(found: dict[str, Any]) -> str:
    alive = [process for process in found["processes"] if process["alive"]]
    hosts = counted(len({process["host"] for process in alive}), "container")
    if found["runs"] == COMPOSE:
        return f"a compose stack: {counted(len(alive), 'process', 'processes')} in {hosts}"
    if found["runs"] == PARTS:
        return f"{counted(len(alive), 'part')}, each on its own; no `giro up` on this database"
    supervisor: str | None = found["supervisor"]
    return supervisor or "no `giro up` on this database"


def _as_address(found: dict[str, Any]) -> str:
    inside = ", inside the stack at http://api:8000" if found["runs"] == COMPOSE else ""
    return f"{found['api_url']}{inside}" if found["api_url"] else "not running"


def _as_verified(last: tuple[datetime, datetime, int] | None) -> str:
    """Describe the result of the last verification."""
    if last is None:
        return "not verified yet"
    _, finished_at, breaches = last
    found = (
        f"{counted(breaches, 'breach', 'breaches')}, so nothing is settled: see `giro verify`"
        if breaches
        else "every rule holds"
    )
    return f"{found}, verified {_age_of(to_us(finished_at)):.0f} s ago"


def _age_of(created_at: int) -> float:
    """Return the seconds since a moment, which is given in microseconds since the epoch."""
    return round((now_us() - created_at) / 1e6, 3)
