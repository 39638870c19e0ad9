"""Shared parts of all commands: output, errors, and access to the database."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from functools import wraps
from typing import Annotated, NoReturn
from uuid import UUID

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import DatabaseError as DatabaseDamaged
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from core.domain.accounts import is_account_number
from core.domain.audit import Author
from core.domain.errors import GiroError
from core.domain.texts import without_directions
from core.domain.transfers import MAX_DESCRIPTION
from core.domain.users import SYSTEM_USER_ID
from core.ids import new_id
from core.processes.exit_statuses import StartRefused
from core.settings import Settings, SettingsError, load_settings
from core.storage.engines import DatabaseError, Engine, open_engine
from core.telemetry.logging import configure_logging

out = Console(highlight=False)
complaints = Console(stderr=True, highlight=False)

Limit = Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="How many to show.")]
"""The option of commands that list something."""

tables = Console(highlight=False, width=1000)
"""Wide enough for a row on one line. A wrapped id could be neither copied nor searched for."""


def fail(message: str, status: int = 2) -> NoReturn:
    """Print a one-line error and exit."""
    complaints.print(f"giro: {message}", style="red", soft_wrap=True, markup=False)
    raise typer.Exit(status)


def one_line_errors[**P, R](command: Callable[P, R]) -> Callable[P, R]:
    """Make a command end with one clear line if it fails with an error that its user can fix."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (SettingsError, DatabaseError) as error:
            fail(str(error))
        except StartRefused as refusal:
            fail(str(refusal), refusal.status)
        except GiroError as error:
            fail(f"{error.detail} ({error.code})", status=1)
        except DatabaseDamaged as error:
            if isinstance(error, IntegrityError):  # a bug in Giro, which its user cannot fix
                raise
            fail(f"cannot read the database: {error.orig}")

    return wrapped


def open_database(settings: Settings) -> Engine:
    """Open the database for a command. Raises DatabaseError if it is missing or not migrated."""
    configure_logging(settings.model_copy(update={"log_level": "error"}), process="cli")
    database = open_engine(settings)
    database.require_schema()
    return database


def look[T](question: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """Run a query in a read-only session, as the API does."""
    database = open_database(load_settings())

    async def ask() -> T:
        try:
            async with AsyncSession(database.async_reader) as session:
                return await question(session)
        finally:
            await database.async_reader.dispose()

    return asyncio.run(ask())


def the_bank() -> Author:
    """Return the author of a command's acts: the system user, without an address."""
    return Author(user_id=SYSTEM_USER_ID, request_id=str(new_id()), address=None)


def parse_account(text: str) -> UUID | str:
    """Read an account id or an account number."""
    if is_account_number(text):
        return text
    try:
        return UUID(text)
    except ValueError:
        fail(f"{text} is neither an account id nor an account number with correct check digits")


DESCRIPTION = f"at most {MAX_DESCRIPTION} printable characters"
"""The rule for a transfer's description, for error messages."""


def is_description(text: str) -> bool:
    """Return whether a text is a valid description, as `DESCRIPTION` says."""
    return len(text) <= MAX_DESCRIPTION and text.isprintable()


def counted(number: int, one: str, many: str = "") -> str:
    """Write a number with its noun: `1 card`, `2 cards`. `many` is needed if the plural is not `one` plus s."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def show(*columns: str, rows: Iterable[Sequence[object]], more: bool) -> None:
    """Print a table, and a note if there are more rows. None is shown as a dash."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))  # no markup: users choose their own names
    tables.print(table)
    if more:
        complaints.print("There are more rows: see --limit.", style="dim")


def show_first[Row](limit: int, *columns: str, found: Sequence[Row], row: Callable[[Row], Sequence[object]]) -> None:
    """Print the first `limit` rows. The caller fetches one row more, to find out whether there are more."""
    show(*columns, rows=map(row, found[:limit]), more=len(found) > limit)


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds").removesuffix("+00:00")
    return "-" if value is None else without_directions(str(value))
