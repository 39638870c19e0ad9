"""`giro verify`: the check of the ledger."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Annotated

import typer
from rich.progress import Progress

from core.cli.console import complaints, counted, fail, one_line_errors, open_database, out
from core.clock import now_us, to_datetime
from core.services import verification
from core.services.verification import AnchorKeyMissing, Anchors, Report
from core.settings import Settings, load_settings
from core.storage.unit_of_work import unit_of_work

app = typer.Typer()

PUBLIC_KEY_HELP = "Public key of the anchors' signatures (64 hex digits), if the bank's secret is not available."


@app.command()
@one_line_errors
def verify(
    recent: Annotated[
        bool, typer.Option("--recent", help="Check only what is new since the last kept result.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the result: a breach halts settlement, a correct ledger allows it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    public_key: Annotated[str, typer.Option(metavar="KEY", help=PUBLIC_KEY_HELP)] = "",
) -> None:
    """Check the ledger: balances, legs, transfers, statements, the chain of blocks and its anchors.

    The exit status is 0 if every rule holds, and 1 if one is broken, in an isolated account too.
    """
    settings = load_settings()
    database = open_database(settings)
    anchors = anchors_of(settings, public_key)
    check = verification.verify_recent if recent else verification.verify
    started_at = to_datetime(now_us())
    with drawn_progress() as progress:
        report = check(database, anchors=anchors, progress=progress)
    if keep:
        with unit_of_work(database) as connection:
            kept = verification.keep(connection, report, started_at=started_at)
        if not kept:
            report.warnings.append("the result was not kept: another verification has found breaches meanwhile")
    if as_json:
        print(json.dumps(in_json(report)))
    else:
        _print(report, anchors)
    raise typer.Exit(1 if report.all_breaches else 0)


@contextmanager
def drawn_progress() -> Iterator[verification.Progress]:
    """Draw how far a verification has read, on a terminal."""
    with Progress(console=complaints, transient=True, disable=not sys.stderr.isatty()) as drawing:
        task = drawing.add_task("Reading transactions")
        yield lambda done, of: drawing.update(task, completed=done, total=of or 1)


def anchors_of(settings: Settings, public_key: str = "") -> Anchors:
    """Return where the anchors are, with the key given or else the bank's own. Ends the command without either."""
    if public_key:
        return Anchors(settings.anchor_path, parse_public_key(public_key))
    try:
        return Anchors.at_hand(settings)
    except AnchorKeyMissing as error:
        fail(f"{error}, or give --public-key")


def parse_public_key(text: str) -> bytes:
    """Read the option --public-key."""
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        fail("--public-key: must be 64 hex digits")
    return key


def _print(report: Report, anchors: Anchors) -> None:
    for warning in report.warnings:
        complaints.print(warning, style="yellow", markup=False)
    for breach in (*report.breaches, *report.isolated):
        places = ", ".join(f"{kind} {row}" for kind, row in breach.places.items())
        out.print(f"{breach.rule}: {breach.detail}" + (f" ({places})" if places else ""), style="red", markup=False)
    if report.head_hash is not None:
        out.print(f"block {report.height}: {report.head_hash.hex()}", soft_wrap=True)
    key = "no key yet" if anchors.public_key is None else f"key {anchors.public_key.hex()}"
    out.print(f"{counted(report.anchors, 'anchor')} with {key}", soft_wrap=True)
    found = counted(report.all_breaches, "breach", "breaches") if report.all_breaches else "every rule holds"
    if report.isolation is not None:
        found += f", {report.isolated_count} of them in {counted(len(report.isolation.accounts), 'isolated account')}"
    read = [
        counted(report.accounts, "account"),
        counted(report.transfers, "transfer"),
        counted(report.transactions, "transaction"),
        counted(report.blocks, "block"),
    ]
    out.print(f"{', '.join(read)}: {found}")


def in_json(report: Report) -> dict[str, object]:
    """Return a report as JSON can write it."""
    values = asdict(replace(report, isolation=None))
    values["counts"] = dict(report.counts)  # asdict() would count its pairs
    values["scars"] = [asdict(scar) | {"confirmed_at": scar.confirmed_at.isoformat()} for scar in report.scars]
    values["head_hash"] = report.head_hash and report.head_hash.hex()
    values["isolation"] = report.isolation and {"accounts": sorted(report.isolation.accounts)}
    del values["most"]
    return {"holds": not report.all_breaches, "halts": not report.holds, **values}
