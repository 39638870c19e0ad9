"""`giro backup` and `giro restore`."""

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, TaskID

from core.cli.console import complaints, counted, fail, one_line_errors, open_database, out, the_bank
from core.cli.service import apply_migrations
from core.cli.verify import parse_public_key
from core.domain.audit import Action
from core.processes.data_folder import require_data_folder
from core.processes.database_hold import alone
from core.services.audit import write_down
from core.services.backups import following, making, restoring
from core.services.backups.manifests import BackupError, LedgerBroken, Manifest, signature_of
from core.services.backups.restoring import Restored
from core.services.backups.shipments import Header
from core.settings import Settings, load_settings
from core.storage.engines import Engine
from core.storage.unit_of_work import unit_of_work
from core.telemetry.logging import configure_logging

app = typer.Typer()

PUBLIC_KEY_HELP = "Public key of the backup's signature (64 hex digits), if the anchor key is not available."

AsJson = Annotated[bool, typer.Option("--json", help="Print the backup's manifest, as JSON.")]
To = Annotated[
    Path | None, typer.Option("--to", metavar="FOLDER", help="Default: the folder of the scheduled backups.")
]
File = Annotated[Path, typer.Argument(metavar="FILE", help="The backup: giro-….db, with its manifest next to it.")]


@app.command("backup")
@one_line_errors
def back_up(
    to: To = None,
    as_json: AsJson = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Ship every change to the same folder, until Ctrl-C, after a first backup.")
    ] = False,
    every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, max=3600, help="With --follow: time between two shipments.")
    ] = 5,
) -> None:
    """Copy the ledger while the service runs, and verify the copy. A backup contains no keys: keep them apart from it.

    Exit status 0 when it is made, 1 when the copy breaks a rule, 2 when it cannot be made. With --follow, 0 after
    Ctrl-C or SIGTERM, and 2 when shipping failed.
    """
    settings = load_settings()
    database = open_database(settings)
    os.umask(0o077)
    if follow:
        ship_until_stopped(settings, database, to or settings.backups_path, every, as_json=as_json)
        return
    with one_line_of_a_backup(), drawn_progress() as progress:
        path, manifest = making.make(settings, database, to or settings.backups_path, progress)
    with unit_of_work(database) as connection:
        write_down(connection, the_bank(), Action.BACKUP_TAKEN, file=path.name)
    if as_json:
        print(manifest.model_dump_json(indent=2))
    else:
        signed = "signed" if signature_of(path).exists() else "not signed: there is no anchor key"
        seals = ["sealed", signed] if manifest.sealed else [signed]
        out.print(f"{path}: {', '.join([summary_of(manifest), 'verified', *seals])}", soft_wrap=True, markup=False)
        out.print(f"keep apart from it: {', '.join(manifest.keys)}", soft_wrap=True, markup=False)


@app.command()
@one_line_errors
def restore(
    file: File,
    *,
    migrate: Annotated[bool, typer.Option("--migrate", help="Bring an older backup to this schema.")] = False,
    public_key: Annotated[str, typer.Option(metavar="KEY", help=PUBLIC_KEY_HELP)] = "",
    unsigned: Annotated[
        bool, typer.Option("--unsigned", help="Accept a backup that is not signed with a key that is trusted here.")
    ] = False,
    until: Annotated[
        int | None,
        typer.Option(metavar="TICK", min=0, help="Apply shipments only up to this one. 0: only the backup."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Restore a backup into an empty data folder, where nothing runs, with the keys that were kept apart.

    Exit status 0 when it is restored, 1 when the ledger in it breaks a rule, 2 when it cannot be restored, 3 when a
    Giro runs here.
    """
    settings = load_settings()
    configure_logging(settings.model_copy(update={"log_level": "error"}), process="cli")
    os.umask(0o077)
    require_data_folder(settings)
    with one_line_of_a_backup(), alone(settings, "`giro restore`"), drawn_progress() as progress:
        done = restoring.restore(
            settings,
            file,
            the_bank(),
            progress,
            migrate=apply_migrations if migrate else None,
            public_key=parse_public_key(public_key) if public_key else None,
            unsigned=unsigned,
            until=until,
        )
    for warning in done.warnings:
        complaints.print(f"giro: {warning}", style="yellow", soft_wrap=True, markup=False)
    if as_json:
        print(json.dumps(as_plain(done), indent=2))
    else:
        made = done.up_to.isoformat(" ", "seconds").removesuffix("+00:00")
        out.print(f"{settings.database_path}: {summary_of(done.manifest)}, verified", soft_wrap=True, markup=False)
        if done.shipments:
            out.print(f"{counted(done.shipments, 'shipment')} applied to it", soft_wrap=True, markup=False)
        out.print(f"changes after {made} UTC are not in it", soft_wrap=True, markup=False)
        for line in what_ended(done):
            out.print(line, soft_wrap=True, markup=False)


def ship_until_stopped(settings: Settings, database: Engine, folder: Path, every: float, *, as_json: bool) -> None:
    """Ship every change until a signal, and print a line for each shipment."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())

    def say(header: Header, size: int, seconds: float) -> None:
        if as_json:
            facts = header.model_dump(mode="json") | {"bytes": size, "turn_seconds": round(seconds, 6)}
            print(json.dumps(facts), flush=True)
        else:
            at = header.shipped_at.isoformat(" ", "seconds").removesuffix("+00:00")
            out.print(f"{at} UTC: {size / 1e6:.2f} MB shipped, turn of {seconds * 1000:.1f} ms", markup=False)

    with one_line_of_a_backup(), drawn_progress() as progress:
        following.follow(settings, database, folder, every, stop, progress=progress, shipped=say)


def as_plain(done: Restored) -> dict[str, object]:
    """Return a restore as JSON can hold it: the backup's manifest, and what was done."""
    ended = {
        "users": done.sessions.users,
        "refresh_tokens": done.sessions.refresh_tokens,
        "excluded": done.sessions.excluded,
        "token_keys_rotated": done.token_keys_rotated,
    }
    return {
        **done.manifest.model_dump(mode="json"),
        "migrated": done.migrated,
        "shipments": done.shipments,
        "up_to": done.up_to.isoformat(),
        "ended": ended,
        "warnings": done.warnings,
    }


def what_ended(done: Restored) -> Iterator[str]:
    """Say which sessions ended."""
    ended = done.sessions
    yield (
        f"sessions ended: those of {counted(ended.users, 'user')}, with "
        f"{counted(ended.refresh_tokens, 'refresh token')}, and all device tokens"
    )
    if done.token_keys_rotated:
        yield "a new token key signs access tokens, and the older ones are refused"
    if ended.excluded:
        yield f"{counted(ended.excluded, 'user')} lost access after the backup, and stay out"


@contextmanager
def one_line_of_a_backup() -> Iterator[None]:
    """End the command if a backup is unusable: with status 1 for a broken ledger, and 2 for any other reason."""
    try:
        yield
    except LedgerBroken as error:
        fail(str(error), status=1)
    except BackupError as error:
        fail(str(error))


@contextmanager
def drawn_progress() -> Iterator[making.Progress]:
    """Draw a line for each step, on a terminal."""
    with Progress(console=complaints, transient=True, disable=not sys.stderr.isatty()) as drawing:
        tasks: dict[str, TaskID] = {}

        def draw(step: str, done: int, of: int) -> None:
            if step not in tasks:
                tasks[step] = drawing.add_task(step)
            drawing.update(tasks[step], completed=done, total=of)

        yield draw


def summary_of(manifest: Manifest) -> str:
    """Summarise the content of a backup."""
    counts = manifest.counts
    return (
        f"{counted(counts['accounts'], 'account')}, {counted(counts['transfers'], 'transfer')}, "
        f"{counted(counts['transactions'], 'transaction')}, {manifest.size_bytes / 1e6:.1f} MB"
    )
