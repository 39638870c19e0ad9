"""More of `giro operator …`: the results of scheduled work."""

import typer

from core.cli.console import look, one_line_errors, out, show, show_first
from core.cli.operator import Limit
from core.domain.statements import Run
from core.ids import NEWEST
from core.services import verification
from core.services.statements import making

app = typer.Typer()


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
    """Show the result of the last scheduled verification. `giro verify` runs one now."""
    last = look(verification.last)
    if last is None:
        out.print("no scheduled verification has run yet")
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


def run_row(run: Run) -> list[object]:
    """Make the row of a run."""
    groups = f"{run.groups_done} of {run.group_count}"
    return [run.period, run.time_zone, run.opened_at, groups, run.statements, run.finished_at]
