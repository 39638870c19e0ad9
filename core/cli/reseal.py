"""`giro reseal`: the way back from a breach of blocks or anchors alone."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from core.cli.console import complaints, counted, fail, one_line_errors, open_database, out, the_bank
from core.cli.verify import anchors_of, drawn_progress, in_json
from core.domain.audit import Author
from core.security.anchor_key import AnchorKey
from core.security.passwords import Passwords
from core.security.secrets import Secrets
from core.services.identity.acting import NotAnOperator, identify
from core.services.verification import Report, resealing
from core.services.verification.resealing import CannotReseal
from core.settings import Settings, load_settings
from core.storage.engines import Engine
from core.storage.scars import ScarRow

app = typer.Typer()

LONGEST_REASON = 500

By = Annotated[str, typer.Option("--as", metavar="EMAIL", help="The operator who acts. The password is asked for.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Propose it, and say why. The text is kept for ever.")]
Confirm = Annotated[int | None, typer.Option(metavar="ID", help="Confirm a proposal, as another operator.")]


@app.command()
@one_line_errors
def reseal(by: By, reason: Reason = "", confirm: Confirm = None, as_json: AsJson = False) -> None:
    """Continue after a breach of blocks or anchors alone, with a scar in the chain that every verification reports.

    One operator proposes it (--reason), another one confirms it (--confirm ID). It repairs nothing, and refuses if any
    other rule is broken. Exit status 0 when it is done, 1 when it is refused.
    """
    if bool(reason.strip()) is (confirm is not None):
        fail("either propose with --reason TEXT, or confirm with --confirm ID")
    check_reason(reason)
    settings = load_settings()
    database = open_database(settings)
    with one_line_of_a_refusal(), drawn_progress() as progress:
        author = acting_operator(settings, database, by)
        if confirm is None:
            found = resealing.propose(database, author, anchors_of(settings), reason.strip(), progress)
            say_proposed(*found, as_json=as_json)
        else:
            key = AnchorKey(Secrets(settings).anchor_key.read_or_make())
            report = resealing.confirm(database, author, confirm, key, settings.anchor_path, progress=progress)
            say_done(report, as_json=as_json)


def check_reason(reason: str) -> None:
    """End the command if a reason is too long, or has characters that a terminal cannot show."""
    if len(reason) > LONGEST_REASON or not reason.isprintable():
        fail(f"--reason: must be at most {LONGEST_REASON} printable characters")


@contextmanager
def one_line_of_a_refusal() -> Iterator[None]:
    """End the command with status 1 if the operator is unknown, or a scar is no answer."""
    try:
        yield
    except (NotAnOperator, CannotReseal) as error:
        fail(str(error), status=1)
    except OSError as error:
        fail(f"the anchor was not written: {error}; once it can be, run `giro verify --keep`", status=1)


def acting_operator(settings: Settings, database: Engine, email: str) -> Author:
    """Ask for an operator's password, on a terminal; read one line of any other input."""
    if sys.stdin.isatty():
        password = typer.prompt(f"Password of {email}", hide_input=True)
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    passwords = Passwords(settings.password_hash_rounds)
    return identify(database, passwords, the_bank(), email=email, password=password)


def say_proposed(proposal: ScarRow, report: Report, *, as_json: bool) -> None:
    """Print what a scar would replace, and how to confirm it."""
    if as_json:
        heights = {"first_height": proposal.first_height, "last_height": proposal.last_height}
        print(json.dumps({"proposal": proposal.id, **heights, "verification": in_json(report)}))
        return
    found = counted(report.counts.total(), "breach", "breaches")
    out.print(
        f"proposal {proposal.id}: {found}; a scar would replace what blocks {proposal.first_height} to "
        f"{proposal.last_height} say, and cover it again as it is now",
        soft_wrap=True,
    )
    out.print(f"another operator confirms it: giro reseal --confirm {proposal.id} --as EMAIL", soft_wrap=True)


def say_done(report: Report, *, as_json: bool) -> None:
    """Print the verification after the scar. Ends the command with status 1 if the ledger still does not verify."""
    if as_json:
        print(json.dumps(in_json(report)))
    elif report.holds:
        out.print(f"{report.scars[-1]}", soft_wrap=True, markup=False)
        out.print("every rule holds, and settlement continues")
    else:
        for breach in report.breaches:
            complaints.print(f"{breach.rule}: {breach.detail}", style="red", markup=False)
    raise typer.Exit(0 if report.holds else 1)
