"""Commands that run the service and show its settings."""

import json
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from core import VERSION
from core.cli.console import complaints, one_line_errors, out
from core.processes import run
from core.processes.data_folder import require_data_folder
from core.processes.database_hold import alone, no_part_beside
from core.processes.exit_statuses import StartRefused
from core.security.card_vault import CardVault
from core.security.secrets import Secrets
from core.security.token_keys import TokenKeys
from core.services.cards.keys import check_keys
from core.settings import Settings, load_settings, reference, variable
from core.storage.engines import open_engine
from core.telemetry.logging import configure_logging, get_logger

log = get_logger(__name__)

Hold = Callable[[Settings, str], AbstractContextManager[None]]
"""A context manager that keeps other processes off the database. The text names the activity."""

LOOK_AGAIN_SECONDS = 0.2
"""Time between two checks whether the other process has ended."""

app = typer.Typer(
    help="Giro: a self-hosted banking service whose transfers run through a queue.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
@one_line_errors
def up() -> None:
    """Migrate, then run the whole service until Ctrl-C."""
    settings = load_settings()
    raise typer.Exit(run.run(settings, prepare=partial(prepare, settings, hold=no_part_beside)))


@app.command()
@one_line_errors
def migrate(
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait for a running Giro to end.")
    ] = 0,
) -> None:
    """Create the database, or bring it to the schema of this version, and make missing secrets.

    If there is something to migrate, nothing else may run on the database: otherwise the exit status is 3, and one line
    names the running process.
    """
    settings = load_settings()
    configure_logging(settings, process="cli")
    os.umask(0o077)
    require_data_folder(settings)
    prepare_patiently(settings, wait)
    make_secrets(Secrets(settings))
    revision = open_engine(settings).schema_revision()
    out.print(f"{settings.database_path} is at migration {revision}", soft_wrap=True, markup=False)


@app.command()
@one_line_errors
def worker() -> None:
    """Run the settlement worker; it stands by while another one runs on the same database."""
    run_part("settlement")


@app.command()
@one_line_errors
def jobs() -> None:
    """Run the worker for scheduled jobs."""
    run_part("jobs")


@app.command()
@one_line_errors
def scheduler() -> None:
    """Run the scheduler."""
    run_part("scheduler")


@app.command()
@one_line_errors
def api() -> None:
    """Run the API."""
    run_part("api")


@app.command("settings")
@one_line_errors
def show_settings(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each setting.")] = False,
    as_example: Annotated[
        bool, typer.Option("--example", help="Print a `.env` file of the defaults instead of the values in force.")
    ] = False,
) -> None:
    """Show every setting: its value, the source of the value, and its meaning. Secrets are masked."""
    if as_example:
        print(reference.example(), end="")
        return
    settings = load_settings()
    values, sources = settings.model_dump(mode="json"), settings.sources()
    for group in type(settings).groups():
        if not as_json:
            out.print(group.title, style="bold")
        for name in group.names():
            meaning = type(settings).model_fields[name].description
            if as_json:
                found = {"name": variable(name), "value": values[name], "source": sources[name], "meaning": meaning}
                print(json.dumps(found, ensure_ascii=False))
            else:
                value = "" if values[name] is None else getattr(settings, name)
                out.print(f"{variable(name)}={value}  ({sources[name]})", soft_wrap=True, markup=False)
                out.print(f"    {meaning}", style="dim", soft_wrap=True, markup=False)


@app.callback(invoke_without_command=True)
def root(
    show_version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Giro: a self-hosted banking service whose transfers run through a queue."""
    if show_version:
        out.print(f"giro {VERSION}")
        raise typer.Exit


def apply_migrations(settings: Settings | None = None, *, held: bool = False) -> None:
    """Migrate a database to the newest migration, in this process; by default the database of the environment.

    If `held` is True, the caller holds the locks that keep other processes off it. Otherwise the locks are taken, and
    StartRefused is raised if a Giro runs on the database.
    """
    from alembic import command
    from alembic.config import Config

    home = Path(__file__).parents[2]
    config = Config()
    config.set_main_option("script_location", str(home / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes.update(settings=settings, held=held)
    command.upgrade(config, "head")


def prepare(settings: Settings, *, hold: Hold) -> None:
    """Prepare a start. Errors are reported in one line here, instead of by a process that fails to start.

    A database that already has the newest migration may be in use by processes of this version.
    """
    database = open_engine(settings)
    revision = database.schema_revision() if database.exists() else None
    database.refuse_newer_schema(revision)
    if database.is_current(revision):
        log.info("schema_current", revision=revision)
    else:
        with hold(settings, "a migration"):
            apply_migrations(held=True)
    check_keys(database, CardVault(Secrets(settings)))


def prepare_patiently(settings: Settings, seconds: float) -> None:
    """Prepare while nothing else runs. A running Giro has some seconds to end; this is printed once."""
    deadline, told = time.monotonic() + seconds, False
    while True:
        try:
            return prepare(settings, hold=alone)
        except StartRefused as refusal:
            if time.monotonic() >= deadline:
                raise
            if not told:
                complaints.print(f"giro: {refusal}; waiting {seconds:.0f} s for it", soft_wrap=True, markup=False)
                told = True
        time.sleep(LOOK_AGAIN_SECONDS)


def make_secrets(secrets: Secrets) -> None:
    """Make the missing secrets. Raises SettingsError if an existing file contains no valid key."""
    secrets.make_missing()
    TokenKeys(secrets)


def run_part(name: str) -> NoReturn:
    """Run one part of the service, supervised, and exit."""
    settings = load_settings()
    raise typer.Exit(run.run_part(settings, name, prepare=partial(check, settings)))


def check(settings: Settings) -> None:
    """Check that a part can run. Errors are reported in one line here, instead of by a process that fails to start."""
    database = open_engine(settings)
    database.require_schema()
    check_keys(database, CardVault(Secrets(settings)))
    database.close()
