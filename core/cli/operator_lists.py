"""`giro operator …`: the commands that only show something."""

from typing import Annotated

import typer

from core.cli.console import Limit, look, one_line_errors, out, show, show_first
from core.domain.accounts import AccountWithOwner
from core.domain.audit import Action, AuditFilter, AuditView
from core.domain.money import decimal_string
from core.domain.statements import Run
from core.domain.users import UserView
from core.ids import NEWEST
from core.services import audit, verification
from core.services.identity import operators
from core.services.statements import making

app = typer.Typer()


@app.command("users")
@one_line_errors
def list_users(limit: Limit = 100) -> None:
    """List all users, oldest first."""
    found = look(lambda session: operators.list_users(session, after_id=0, offset=0, limit=limit + 1))
    columns = ("id", "e-mail", "name", "role", "access", "since (UTC)")
    show_first(limit, *columns, found=found, row=user_row)


@app.command("accounts")
@one_line_errors
def list_accounts(limit: Limit = 100) -> None:
    """List every account, the external ones too, oldest first."""
    found = look(lambda session: operators.list_accounts(session, after_id=0, offset=0, limit=limit + 1))
    columns = ("id", "number", "owner", "currency", "balance", "reserved", "limit", "status")
    show_first(limit, *columns, found=found, row=account_row)


@app.command("queue")
@one_line_errors
def show_queue() -> None:
    """Show the state of the settlement queue."""
    state = look(operators.queue_state)
    age = None if state.oldest_age_seconds is None else f"{state.oldest_age_seconds:.1f} s"
    row = [state.pending, age, state.last_settled_sequence, state.parked]
    show("pending", "oldest", "all ended up to", "parked", rows=[row], more=False)


@app.command("audit")
@one_line_errors
def list_audit(
    action: Annotated[Action | None, typer.Option(help="Only this.")] = None,
    limit: Limit = 20,
) -> None:
    """List recorded actions and refusals, newest first."""
    wanted = AuditFilter(action=action)
    found, following = look(lambda session: audit.list_audit(session, wanted, below=NEWEST, offset=0, limit=limit))
    show(
        *("sequence", "at (UTC)", "action", "author", "object", "details", "address", "request"),
        rows=[entry_row(entry) for entry in found],
        more=following is not None,
    )


@app.command("statement-runs")
@one_line_errors
def list_statement_runs(limit: Limit = 24) -> None:
    """List the closed months, newest first, with the progress of their statements."""
    found = look(lambda session: making.list_runs(session, below=NEWEST, offset=0, limit=limit + 1))
    columns = ("month", "time zone", "closed (UTC)", "groups done", "statements", "finished (UTC)")
    show_first(limit, *columns, found=found, row=run_row)


@app.command("verification")
@one_line_errors
def show_verification() -> None:
    """Show the newest kept result of a verification. `giro verify` runs one now."""
    last = look(verification.last)
    if last is None:
        out.print("no verification has been kept yet")
        return
    show(
        *("finished (UTC)", "scope", "accounts", "transfers", "transactions", "block", "anchored", "breaches"),
        rows=[
            [
                *(last.finished_at, last.scope, last.accounts, last.transfers, last.transactions),
                *(last.height, last.anchored_height, last.breach_count),
            ]
        ],
        more=False,
    )
    for breach in last.breaches:
        out.print(f"{breach.rule}: {breach.detail}", style="red", markup=False)


def user_row(user: UserView) -> list[object]:
    """Write a user as a row."""
    access = "active" if user.is_active else "deactivated"
    return [user.public_id, user.email, user.name, user.role, access, user.created_at]


def account_row(found: AccountWithOwner) -> list[object]:
    """Write an account as a row; amounts as decimals of its currency."""
    account, owner_id = found
    amounts = (account.balance, account.reserved, account.overdraft_limit)
    status = account.status if account.freeze_scope is None else f"{account.status} ({account.freeze_scope})"
    return [
        *(account.public_id, account.account_number, owner_id, account.currency),
        *(decimal_string(amount, account.currency) for amount in amounts),
        status,
    ]


def entry_row(entry: AuditView) -> list[object]:
    """Write an entry of the audit log as a row; its details as `status=403 times=3`."""
    details = " ".join(f"{name}={value}" for name, value in entry.details.items())
    return [
        *(entry.sequence, entry.at, entry.action, entry.author_id, entry.object_id),
        *(details, entry.address, entry.request_id),
    ]


def run_row(run: Run) -> list[object]:
    """Make the row of a run."""
    groups = f"{run.groups_done} of {run.group_count}"
    return [run.period, run.time_zone, run.opened_at, groups, run.statements, run.finished_at]
