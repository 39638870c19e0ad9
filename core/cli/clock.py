"""`giro clock …`: whether the wall clock is trusted, and an operator's word that it is right."""

import json
from datetime import timedelta
from typing import Annotated, Any

import typer

from core.cli.console import one_line_errors, open_database, out, the_bank
from core.domain.clocks import ClockState, Doubt
from core.services import clocks
from core.settings import load_settings
from core.storage.unit_of_work import unit_of_work

app = typer.Typer(help="The wall clock, and the trust in it.")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

REASONS = {
    Doubt.JUMPED: "it jumped against the monotonic clock",
    Doubt.UNKNOWN_GAP: "the machine was started since the last observation, and nothing tells how long it was off",
    Doubt.BEHIND_LEDGER: "the ledger has a later time",
}


@app.callback(invoke_without_command=True)
@one_line_errors
def show_clock(context: typer.Context, as_json: AsJson = False) -> None:
    """Show whether the wall clock is trusted. The exit status is 1 if it is not.

    Without trust, no month is closed, and no token, document or backup is deleted. Transfers settle as usual.
    """
    if context.invoked_subcommand is not None:
        return
    with open_database(load_settings()).reading() as connection:
        found = clocks.state(connection)
    if as_json:
        print(json.dumps(as_object(found)))
    else:
        show(found)
        if found.doubt is not None:
            out.print("If the clock is right, confirm it with `giro clock accept`. If not, correct it.", soft_wrap=True)
    raise typer.Exit(found.doubt is not None)


@app.command("accept")
@one_line_errors
def accept_clock(as_json: AsJson = False) -> None:
    """Confirm that the wall clock is right. Months are closed and things expire by it again; the audit log has it.

    Check the time first, for example with `date -u`: a closed month cannot be opened again.
    """
    with unit_of_work(open_database(load_settings())) as connection:
        found = clocks.accept(connection, the_bank())
    accepted = found.doubt is not None
    if as_json:
        print(json.dumps({"accepted": accepted} | as_object(found)))
        return
    if accepted:
        show(found)
    out.print("the clock is accepted" if accepted else "the clock is trusted already; nothing was changed")


def as_object(found: ClockState) -> dict[str, Any]:
    """Write the state for programs."""
    return {"trusted": found.doubt is None} | clocks.details_of(found) | {"doubt": found.doubt}


def show(found: ClockState) -> None:
    """Print both times and the difference."""
    told = clocks.details_of(found)
    out.print(f"wall clock  {told['wall_at']}")
    out.print(f"expected    {told['expected_at']}")
    out.print(f"difference  {describe(found)}")
    out.print(f"state       {state_of(found.doubt)}", soft_wrap=True)


def state_of(doubt: Doubt | None) -> str:
    """Describe the trust in one line."""
    if doubt is None:
        return "trusted"
    return f"in doubt: {REASONS[doubt]}. No month is closed and nothing expires"


def describe(found: ClockState) -> str:
    """Write a difference, as in `40 days, 0:00:00 ahead`."""
    seconds = round(found.difference / 1e6)
    where = "" if seconds == 0 else " ahead" if seconds > 0 else " behind"
    return f"{timedelta(seconds=abs(seconds))}{where}"
