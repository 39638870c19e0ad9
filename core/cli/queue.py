"""`giro queue …`: parked messages, whose work kept failing."""

from collections.abc import Callable
from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy import Connection

from core.cli.console import Limit, look, one_line_errors, open_database, out, show_first, the_bank
from core.domain.audit import Author
from core.domain.dead_letters import DeadLetterView
from core.services import dead_letters
from core.settings import load_settings
from core.storage.unit_of_work import unit_of_work

app = typer.Typer(help="Parked messages, whose work kept failing.", no_args_is_help=True)

LetterId = Annotated[UUID, typer.Argument(metavar="ID", help="The message's id, from `giro queue list`.")]


@app.command("list")
@one_line_errors
def list_dead_letters(limit: Limit = 100) -> None:
    """List the parked messages, whose work kept failing, oldest first."""
    found = look(lambda session: dead_letters.list_parked(session, after=0, offset=0, limit=limit + 1))
    columns = ("id", "queue", "work", "attempts", "last failed (UTC)", "error")
    show_first(limit, *columns, found=found, row=letter_row)


@app.command("retry")
@one_line_errors
def retry_dead_letter(letter: LetterId) -> None:
    """Send a parked message again, as if it had never failed."""
    change_letter(letter, dead_letters.retry)
    out.print(f"{letter} will be sent again")


@app.command("drop")
@one_line_errors
def drop_dead_letter(letter: LetterId) -> None:
    """Drop a parked message. If its work is still due, a new message is sent."""
    change_letter(letter, dead_letters.drop)
    out.print(f"{letter} is dropped")


def change_letter(letter_id: UUID, act: Callable[[Connection, Author, UUID], None]) -> None:
    """Change a parked message, and record in the audit log that the bank itself did it."""
    with unit_of_work(open_database(load_settings())) as connection:
        act(connection, the_bank(), letter_id)


def letter_row(row: DeadLetterView) -> list[object]:
    """Make the row of a parked message. Its work is written as `make_statement_group [3]`."""
    work = f"{row.letter.actor} {row.letter.text}" if row.letter.arguments else row.letter.actor
    return [row.id, row.letter.queue, work, row.attempts, row.last_failed_at, row.error]
