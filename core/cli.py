"""`giro`: the one command of an operator and of a first try."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial, wraps
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn
from uuid import UUID

import typer
from pydantic import EmailStr, TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sqlalchemy import Connection

from core import stack
from core.clock import now_us
from core.domain.accounts import FreezeScope, is_account_number
from core.domain.audit import Author
from core.domain.errors import GiroError, Refusal
from core.domain.money import CUSTOMER_BALANCE_BOUND, MAX_AMOUNT, decimal_string
from core.domain.transfers import AcceptedTransfer, TransferKind, TransferRequest, TransferStatus
from core.domain.users import Role
from core.ids import new_id
from core.logging import configure_logging
from core.models.users import SYSTEM_USER_ID
from core.processes import heartbeat_age
from core.queue import connect, make_broker, send_wakeup
from core.security import Passwords
from core.services import operators, transfers, users
from core.services.verification import verify as verify_ledger
from core.settings import Settings, SettingsError, load_settings, variable
from core.storage import transfers as stored
from core.storage.engine import Database, DatabaseError
from core.storage.unit_of_work import unit_of_work

app = typer.Typer(
    help="Giro: a self-hosted banking service whose transfers run through a queue.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
operator_app = typer.Typer(help="The people who run the bank, and what they do.", no_args_is_help=True)
app.add_typer(operator_app, name="operator")

out = Console(highlight=False)
complaints = Console(stderr=True, highlight=False)

SHORTEST_PASSWORD = 12
LONGEST_PASSWORD = 128
DEPOSIT_WAIT_SECONDS = 10


def fail(message: str, status: int = 2) -> NoReturn:
    """Say in one line what is wrong, and exit."""
    complaints.print(f"giro: {message}", style="red", soft_wrap=True, markup=False)
    raise typer.Exit(status)


def one_line_errors[**P, R](command: Callable[P, R]) -> Callable[P, R]:
    """Have a command end with one clear line where its user can do something about what went wrong."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (SettingsError, DatabaseError) as error:
            fail(str(error))
        except GiroError as error:
            fail(f"{error.detail} ({error.code})", status=1)

    return wrapped


def open_database(settings: Settings) -> Database:
    """Open the database for a command; it must be there and migrated."""
    configure_logging(settings.model_copy(update={"log_level": "error"}), process="cli")
    database = Database(settings)
    database.require_schema()
    return database


@app.command()
@one_line_errors
def up() -> None:
    """Migrate, then run the whole service until Ctrl-C."""
    settings = load_settings()
    raise typer.Exit(stack.run(settings, prepare=apply_migrations))


@app.command()
@one_line_errors
def demo(
    transfer_count: Annotated[int, typer.Option("--transfers", min=10, max=100_000, help="How many to send.")] = 300,
) -> None:
    """Run a service of its own on temporary data, send some hundred transfers through it, and verify the ledger."""
    from core.demo import run_demo

    raise typer.Exit(run_demo(transfer_count, out))


@app.command()
@one_line_errors
def migrate() -> None:
    """Create the database, or bring it to the schema of this version."""
    settings = load_settings()
    configure_logging(settings, process="cli")
    os.umask(0o077)
    apply_migrations()
    out.print(f"{settings.database_path} is at migration {Database(settings).schema_revision()}")


@app.command()
@one_line_errors
def worker() -> None:
    """Run the settlement worker; it stands by while another one runs on the same database."""
    become("settlement")


@app.command()
@one_line_errors
def jobs() -> None:
    """Run the worker for scheduled jobs."""
    become("jobs")


@app.command()
@one_line_errors
def scheduler() -> None:
    """Run the scheduler."""
    become("scheduler")


@app.command()
@one_line_errors
def api() -> None:
    """Run the API."""
    become("api")


@app.command()
@one_line_errors
def verify() -> None:
    """Check the ledger: balances against legs, legs against transfers, sums per currency, reserved funds.

    Exit status 0 when every rule holds, 1 when one is broken.
    """
    database = open_database(load_settings())
    with Progress(console=complaints, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("Reading transactions")
        report = verify_ledger(database, lambda done, of: progress.update(task, completed=done, total=of or 1))
    for breach in report.breaches:
        out.print(f"{breach.rule}: {breach.detail}", style="red", markup=False)
    out.print(
        f"{report.accounts} accounts, {report.transfers} transfers, {report.transactions} transactions: "
        + ("every rule holds" if report.holds else f"{report.counts.total()} breaches"),
    )
    raise typer.Exit(0 if report.holds else 1)


@app.command()
@one_line_errors
def status() -> None:
    """Show what runs here, and what waits."""
    settings = load_settings()
    database = open_database(settings)
    table = Table(box=None, show_header=False)
    version_of_sqlite, affected = database.sqlite()
    with database.reader.connect() as connection:
        backlog = stored.backlog(connection)
    age = "" if backlog.oldest_created_at is None else f", the oldest for {age_of(backlog.oldest_created_at):.1f} s"
    table.add_row("database", f"{database.path}, migration {database.schema_revision()}")
    table.add_row("SQLite", version_of_sqlite + (", affected by the WAL-reset bug" if affected else ""))
    table.add_row("running", stack.holder(settings) or "no `giro up` on this database")
    table.add_row("pending", f"{backlog.pending} transfers{age}")
    for name in stack.PROCESSES:
        table.add_row(name, heartbeat_of(settings, name))
    out.print(table)


@app.command()
@one_line_errors
def deposit(
    account: Annotated[str, typer.Argument(help="Account id or account number.")],
    amount: Annotated[int, typer.Argument(min=1, max=MAX_AMOUNT, help="Minor units: 1050 is 10.50 USD.")],
    description: Annotated[str, typer.Option(help="What the account's owner reads.")] = "Deposit",
) -> None:
    """Put money from outside on an account, as the bank itself: money for a first try."""
    settings = load_settings()
    payee = parse_account(account)
    database = open_database(settings)
    request = TransferRequest(
        kind=TransferKind.DEPOSIT,
        submitted_by=SYSTEM_USER_ID,
        payer=None,
        payee=payee,
        amount=amount,
        currency=None,
        description=description,
        idempotency_key=None,
        fingerprint=None,
        request_id=str(new_id()),
    )
    with unit_of_work(database) as connection:
        (accepted,) = transfers.accept(connection, [request])
    if isinstance(accepted, Refusal):
        raise accepted
    with suppress(Exception):  # the sweep wakes the worker where this cannot
        send_wakeup(make_broker(connect(settings.queue_url)))
    report_deposit(accepted, wait_for_end(database, accepted.id))


@operator_app.command("create")
@one_line_errors
def create_operator(email: Annotated[str, typer.Argument(help="E-mail address to log in with.")]) -> None:
    """Make an operator. The password is asked for, or read from standard input when that is no terminal."""
    settings = load_settings()
    try:
        email = TypeAdapter(EmailStr).validate_python(email)
    except ValidationError:
        fail(f"{email} is no e-mail address")
    password = read_password()
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        fail(f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")
    database = open_database(settings)
    password_hash = Passwords(settings.password_hash_rounds).hash(password)
    with unit_of_work(database) as connection:
        users.sign_up(connection, email=email, name=None, password_hash=password_hash, role=Role.OPERATOR)
    out.print(f"{email.lower()} is an operator now")


AccountName = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Account id or account number.")]
UserEmail = Annotated[str, typer.Argument(metavar="EMAIL", help="The user's e-mail address.")]


@operator_app.command("freeze")
@one_line_errors
def freeze_account(
    account: AccountName,
    scope: Annotated[FreezeScope, typer.Option(help="debit: it still receives; all: neither.")] = FreezeScope.ALL,
) -> None:
    """Freeze an account; pending transfers from it will fail."""
    change_account(account, partial(operators.freeze, scope=scope))
    out.print(f"{account} is frozen for {'debits' if scope is FreezeScope.DEBIT else 'all'}")


@operator_app.command("unfreeze")
@one_line_errors
def unfreeze_account(account: AccountName) -> None:
    """Make a frozen account active again."""
    change_account(account, operators.unfreeze)
    out.print(f"{account} is active")


@operator_app.command("limit")
@one_line_errors
def set_overdraft_limit(
    account: AccountName,
    amount: Annotated[int, typer.Argument(min=0, max=CUSTOMER_BALANCE_BOUND, help="Minor units.")],
) -> None:
    """Set how far below 0 an account may go."""
    change_account(account, partial(operators.set_overdraft_limit, amount=amount))
    out.print(f"{account} may go {amount} minor units below 0")


@operator_app.command("deactivate")
@one_line_errors
def deactivate_user(email: UserEmail) -> None:
    """Take a user's access away, at once."""
    change_user(email, operators.deactivate)
    out.print(f"{email} is deactivated")


@operator_app.command("reactivate")
@one_line_errors
def reactivate_user(email: UserEmail) -> None:
    """Give a user access again, by a new log-in."""
    change_user(email, operators.reactivate)
    out.print(f"{email} is active")


@app.command("settings")
@one_line_errors
def show_settings() -> None:
    """Show every setting: its value, where that came from, and what it means. Secrets are masked."""
    settings = load_settings()
    sources = settings.sources()
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        shown = "" if value is None else str(value)
        out.print(f"{variable(name)}={shown}  ({sources[name]})", soft_wrap=True, markup=False)
        out.print(f"    {field.description}", style="dim", soft_wrap=True, markup=False)


@app.callback(invoke_without_command=True)
def root(
    show_version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Giro: a self-hosted banking service whose transfers run through a queue."""
    if show_version:
        out.print(f"giro {version('giro')}")
        raise typer.Exit


def apply_migrations() -> None:
    """Bring the database to the newest migration, in this process."""
    from alembic import command
    from alembic.config import Config

    home = Path(__file__).parent.parent
    config = Config()
    config.set_main_option("script_location", str(home / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    command.upgrade(config, "head")


def become(name: str) -> NoReturn:
    """Turn this process into one of those that `giro up` starts."""
    command = stack.command_of(load_settings(), name)
    os.execv(command[0], list(command))


def change_account(name: str, act: Callable[[Connection, Author, UUID], None]) -> None:
    """Do something to an account, and write it down as done by the bank itself."""
    account = parse_account(name)
    with unit_of_work(open_database(load_settings())) as connection:
        act(connection, the_bank(), operators.account_by_name(connection, account))


def change_user(email: str, act: Callable[[Connection, Author, UUID], None]) -> None:
    """Do something to a user, and write it down as done by the bank itself."""
    with unit_of_work(open_database(load_settings())) as connection:
        act(connection, the_bank(), operators.user_by_email(connection, email))


def the_bank() -> Author:
    """Who acts when a command does: the system user, from no address."""
    return Author(user_id=SYSTEM_USER_ID, request_id=str(new_id()), address=None)


def parse_account(text: str) -> UUID | str:
    """Read an account id or an account number."""
    if is_account_number(text):
        return text
    try:
        return UUID(text)
    except ValueError:
        fail(f"{text} is neither an account id nor an account number with check digits that fit")


def read_password() -> str:
    """Ask for a password twice on a terminal; take one line from anything else."""
    if sys.stdin.isatty():
        password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        return password
    return sys.stdin.readline().rstrip("\r\n")


def wait_for_end(database: Database, transfer_id: UUID) -> TransferStatus:
    """Look at a transfer until it has ended, or for some seconds."""
    deadline = time.monotonic() + DEPOSIT_WAIT_SECONDS
    while True:
        with database.reader.connect() as connection:
            row = stored.read(connection, transfer_id)
        assert row is not None, "accepted above"
        if row.status is not TransferStatus.PENDING or time.monotonic() > deadline:
            return row.status
        time.sleep(0.05)


def report_deposit(deposit: AcceptedTransfer, status: TransferStatus) -> None:
    """Say what became of a deposit."""
    amount = f"{decimal_string(deposit.amount, deposit.currency)} {deposit.currency}"
    if status is TransferStatus.COMPLETED:
        out.print(f"deposited {amount} (transfer {deposit.id})")
    elif status is TransferStatus.PENDING:
        out.print(f"{amount} will be there when a settlement worker runs (transfer {deposit.id} is pending)")
    else:
        fail(f"the deposit of {amount} is {status} (transfer {deposit.id})", status=1)


def age_of(created_at: int) -> float:
    """Seconds since a moment given in microseconds since the epoch."""
    return (now_us() - created_at) / 1e6


def heartbeat_of(settings: Settings, name: str) -> str:
    """Say in words whether a process is alive."""
    age = heartbeat_age(settings.run_dir, name)
    if age is None:
        return "not running"
    return f"alive {age:.1f} s ago" + ("" if age < settings.silent_seconds else ": silent")


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
