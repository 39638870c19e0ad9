"""More of `giro operator …`: what runs by itself, and how it went."""

from collections.abc import Callable
from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy import Connection

from core.cli.console import look, one_line_errors, open_database, out, show, show_first, the_bank
from core.cli.operators import Limit
from core.domain.audit import Author
from core.domain.dead_letters import DeadLetterView
from core.domain.statements import Run
from core.models.base import NEWEST
from core.services import dead_letters, statement_runs, verification
from core.settings import load_settings
from core.storage.unit_of_work import unit_of_work

app = typer.Typer()

LetterId = Annotated[UUID, typer.Argument(metavar="ID", help="The message's id, from `giro operator dead-letters`.")]


@app.command("statement-runs")
@one_line_errors
def list_statement_runs(limit: Limit = 24) -> None:
    """List the months that are closed, newest first, with the progress of their statements."""
    found = look(lambda session: statement_runs.list_runs(session, below=NEWEST, offset=0, limit=limit + 1))
    columns = ("month", "time zone", "closed (UTC)", "groups done", "statements", "finished (UTC)")
    show_first(limit, *columns, found=found, row=run_row)


@app.command("dead-letters")
@one_line_errors
def list_dead_letters(limit: Limit = 100) -> None:
    """List the messages that are parked, since their work kept failing, oldest first."""
    found = look(lambda session: dead_letters.list_parked(session, after=0, offset=0, limit=limit + 1))
    columns = ("id", "queue", "work", "attempts", "last failed (UTC)", "error")
    show_first(limit, *columns, found=found, row=letter_row)


@app.command("retry")
@one_line_errors
def retry_dead_letter(letter: LetterId) -> None:
    """Have a parked message sent again, as if it had never failed."""
    change_letter(letter, dead_letters.retry)
    out.print(f"{letter} will be sent again")


@app.command("drop")
@one_line_errors
def drop_dead_letter(letter: LetterId) -> None:
    """Forget a parked message. What is still due is found again, and sent anew."""
    change_letter(letter, dead_letters.drop)
    out.print(f"{letter} is forgotten")


@app.command("verification")
@one_line_errors
def show_verification() -> None:
    """Show what the last scheduled verification found; `giro verify` does one now."""
    last = look(verification.last)
    if last is None:
        out.print("there was no scheduled verification yet")
        return
    show(
        *("finished (UTC)", "scope", "accounts", "transfers", "transactions", "block", "anchored", "breaches"),
        rows=[
            [
                *(last.finished_at, last.scope, last.accounts, last.transfers, last.transactions),
                *(last.height, last.anchored_height, last.breaches),
            ]
        ],
        more=False,
    )
    for rule, detail in verification.breaches_of(last):
        out.print(f"{rule}: {detail}", style="red", markup=False)


def change_letter(letter_id: UUID, act: Callable[[Connection, Author, UUID], None]) -> None:
    """Do something to a parked message, and write it down as done by the bank itself."""
    with unit_of_work(open_database(load_settings())) as connection:
        act(connection, the_bank(), letter_id)


def run_row(run: Run) -> list[object]:
    """Write a run as a row."""
    groups = f"{run.groups_done} of {run.group_count}"
    return [run.period, run.time_zone, run.opened_at, groups, run.statements, run.finished_at]


def letter_row(row: DeadLetterView) -> list[object]:
    """Write a parked message as a row; its work as `make_statement_group [3]`."""
    work = f"{row.letter.actor} {row.letter.text}" if row.letter.arguments else row.letter.actor
    return [row.id, row.letter.queue, work, row.attempts, row.last_failed_at, row.error]
