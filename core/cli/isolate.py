"""`giro isolate`: the way back from a breach that concerns some accounts."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from core.cli.console import complaints, counted, fail, one_line_errors, open_database, out, the_bank
from core.cli.reseal import AsJson, check_reason
from core.cli.verify import anchors_of, drawn_progress, in_json
from core.services.verification import Report, isolating
from core.services.verification.isolating import CannotIsolate
from core.settings import load_settings

app = typer.Typer()

Reason = Annotated[str, typer.Option(metavar="TEXT", help="Isolate, and say why. The text is kept for ever.")]
Release = Annotated[bool, typer.Option("--release", help="End the isolation, once the accounts break no rule.")]


@app.command()
@one_line_errors
def isolate(reason: Reason = "", release: Release = False, as_json: AsJson = False) -> None:
    """After a breach, set the accounts apart that it concerns, and let all others settle.

    Pending transfers from and to isolated accounts fail as if they were frozen. A breach elsewhere halts again. Exit
    status 0 when settlement continues, 1 when it is refused, or when other breaches still halt it.
    """
    if bool(reason.strip()) is release:
        fail("either isolate with --reason TEXT, or end it with --release")
    check_reason(reason)
    settings = load_settings()
    database = open_database(settings)
    with one_line_of_a_refusal(), drawn_progress() as progress:
        anchors = anchors_of(settings)
        if release:
            report = isolating.release(database, the_bank(), anchors, progress)
        else:
            report = isolating.isolate(database, the_bank(), anchors, reason.strip(), progress)
    if as_json:
        print(json.dumps(in_json(report)))
    else:
        say(report, released=release)
    raise typer.Exit(0 if report.holds else 1)


@contextmanager
def one_line_of_a_refusal() -> Iterator[None]:
    """End the command with status 1 if an isolation is not the answer."""
    try:
        yield
    except CannotIsolate as error:
        fail(str(error), status=1)


def say(report: Report, *, released: bool) -> None:
    """Print what is isolated now, and what still halts settlement."""
    if report.isolation is not None:
        out.print(f"{counted(len(report.isolation.accounts), 'account')} isolated: transfers from and to them fail")
    elif released:
        out.print("no account is isolated any more")
    for breach in report.breaches:
        complaints.print(f"{breach.rule}: {breach.detail}", style="red", markup=False)
    out.print("settlement continues" if report.holds else "settlement is still halted")
