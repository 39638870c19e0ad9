"""`giro operator …`: the actions of operators, on the machine itself."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated
from unicodedata import category
from uuid import UUID

import typer
from sqlalchemy import Connection

from core.cli.console import complaints, fail, one_line_errors, open_database, out, parse_account, the_bank
from core.cli.deposit import AccountName
from core.domain.accounts import FreezeScope
from core.domain.audit import Author
from core.domain.errors import Refusal
from core.domain.lanes import Lane
from core.domain.money import CUSTOMER_BALANCE_BOUND
from core.domain.pending import MOST_PENDING
from core.domain.users import LONGEST_PASSWORD, SHORTEST_PASSWORD
from core.processes.database_hold import alone
from core.security.passwords import Passwords
from core.services.identity import erasures, operators
from core.services.identity.emails import check_domain, normalised
from core.settings import Settings, load_settings
from core.storage.engines import Engine
from core.storage.unit_of_work import unit_of_work

app = typer.Typer(help="Actions and views of operators, who run the bank.", no_args_is_help=True)

UserName = Annotated[str, typer.Argument(metavar="USER", help="The user's e-mail address or id.")]


@app.command("create")
@one_line_errors
def create_operator(
    email: Annotated[str, typer.Argument(metavar="EMAIL", help="E-mail address to log in with.")],
) -> None:
    """Make an operator. The password is asked for, or read from standard input if that is not a terminal."""
    settings = load_settings()
    try:
        email = normalised(email)
    except ValueError:
        fail(f"{email} is not a valid e-mail address")
    check_domain(email, tests_allowed=settings.allow_test_emails)
    password = read_password()
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        fail(f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")
    if any(category(character) in {"Cc", "Cs"} for character in password):
        fail("a password has no control characters")
    database = open_database(settings)
    about = (email, settings.bank_name)
    password_hash = Passwords(settings.password_hash_rounds).choose(password, about)
    with unit_of_work(database) as connection:
        operators.create(connection, the_bank(), email=email, password_hash=password_hash)
    out.print(f"{email} is an operator now")


@app.command("freeze")
@one_line_errors
def freeze_account(
    account: AccountName,
    scope: Annotated[FreezeScope, typer.Option(help="debit: it still receives; all: neither.")] = FreezeScope.ALL,
) -> None:
    """Freeze an account; pending transfers from it will fail."""
    change_account(account, partial(operators.freeze, scope=scope))
    out.print(f"{account} is frozen for {'debits' if scope is FreezeScope.DEBIT else 'all'}")


@app.command("unfreeze")
@one_line_errors
def unfreeze_account(account: AccountName) -> None:
    """Make a frozen account active again."""
    change_account(account, operators.unfreeze)
    out.print(f"{account} is active")


@app.command("limit")
@one_line_errors
def set_overdraft_limit(
    account: AccountName,
    amount: Annotated[int, typer.Argument(metavar="AMOUNT", min=0, max=CUSTOMER_BALANCE_BOUND, help="Minor units.")],
) -> None:
    """Set how far below 0 an account may go."""
    change_account(account, partial(operators.set_overdraft_limit, amount=amount))
    out.print(f"{account} may go {amount} minor units below 0")


@app.command("pending")
@one_line_errors
def set_pending_limit(
    user: UserName,
    limit: Annotated[
        int | None,
        typer.Argument(metavar="[NUMBER]", min=1, max=MOST_PENDING, help="Without it: the number in the settings."),
    ] = None,
) -> None:
    """Set how many transfers from a user's accounts may be pending."""
    change_user(user, partial(operators.set_pending_limit, limit=limit))
    most = "the number in the settings" if limit is None else f"{limit} transfers"
    out.print(f"{user}: {most} may be pending")


@app.command("deactivate")
@one_line_errors
def deactivate_user(user: UserName) -> None:
    """Revoke a user's access immediately."""
    settings = load_settings()
    change_user(
        user,
        lambda connection, author, user_id: operators.deactivate(connection, author, settings.exclusions_path, user_id),
    )
    out.print(f"{user} is deactivated")


@app.command("reactivate")
@one_line_errors
def reactivate_user(user: UserName) -> None:
    """Give a user access again, by a new log-in."""
    listed = load_settings().exclusions_path
    version = change_user(user, operators.reactivate)
    change_user(user, lambda connection, _author, user_id: operators.admit(connection, listed, user_id, version))
    out.print(f"{user} is active")


@app.command("erase")
@one_line_errors
def erase_user(
    user: Annotated[str | None, typer.Argument(metavar="USER", help="The user's e-mail address or id.")] = None,
    again: Annotated[
        Path | None,
        typer.Option(
            "--again",
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Instead: all users in this list that a backup has brought back.",
        ),
    ] = None,
) -> None:
    """Erase the personal data of a deactivated user permanently. Closes the user's accounts, which must be empty.

    The ledger stays. No Giro may run on the database: otherwise the exit status is 3, and one line names the process.
    While Giro runs, an operator can erase over the API.
    """
    if (user is None) is (again is None):
        fail("name either a user or a list (--again FILE)")
    settings = load_settings()
    database = open_database(settings)
    with alone(settings, "`giro operator erase`"):
        if user is not None:
            with unit_of_work(database, Lane.ACCEPT, Lane.SETTLE) as connection:
                user_id = operators.user_by_name(connection, parse_user(user))
                erasures.erase(
                    connection, the_bank(), settings.erasures_path, user_id, documents=settings.documents_path
                )
            out.print(f"{user_id} is erased")
        elif again is not None:
            erase_again(settings, database, again)


def change_account(name: str, act: Callable[[Connection, Author, UUID], None]) -> None:
    """Change an account, and record in the audit log that the bank itself did it."""
    account = parse_account(name)
    with unit_of_work(open_database(load_settings()), Lane.ACCEPT, Lane.SETTLE) as connection:
        act(connection, the_bank(), operators.account_by_name(connection, account))


def change_user[T](name: str, act: Callable[[Connection, Author, UUID], T]) -> T:
    """Change a user, and record in the audit log that the bank itself did it. Returns the result of the act."""
    with unit_of_work(open_database(load_settings()), Lane.ACCEPT, Lane.SETTLE) as connection:
        return act(connection, the_bank(), operators.user_by_name(connection, parse_user(name)))


def erase_again(settings: Settings, database: Engine, file: Path) -> None:
    """Erase and print the users of a list that are back. Exits with status 1 if one could not be erased."""
    done, left = 0, 0
    try:
        listed = list(erasures.listed_in(file))
    except (OSError, ValueError) as error:
        fail(f"{file} is not a list of erased users: {error}")
    for user_id in listed:
        try:
            with unit_of_work(database, Lane.ACCEPT, Lane.SETTLE) as connection:
                if erasures.erase_again(
                    connection,
                    the_bank(),
                    settings.erasures_path,
                    user_id,
                    excluded=settings.exclusions_path,
                    documents=settings.documents_path,
                ):
                    out.print(f"{user_id} is erased again")
                    done += 1
        except Refusal as refusal:
            left += 1
            complaints.print(f"giro: {user_id} is not erased: {refusal.detail} ({refusal.code})", soft_wrap=True)
    if left:
        raise typer.Exit(1)
    if not done:
        out.print(f"nobody in {file} is back", soft_wrap=True, markup=False)


def parse_user(text: str) -> UUID | str:
    """Read a user's id or e-mail address."""
    try:
        return UUID(text)
    except ValueError:
        return text


def read_password() -> str:
    """Ask for a password twice on a terminal. Read one line from any other input."""
    if sys.stdin.isatty():
        password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        return password
    return sys.stdin.readline().rstrip("\r\n")
