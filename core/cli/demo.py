"""`giro demo`: a temporary service, two customers, a few hundred transfers, a verification.

It does everything from outside, as a client would: over HTTP, and with `giro` commands.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import httpx2
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from core.cli.console import one_line_errors, out
from core.cli.demo_clients import (
    CLIENTS,
    OPENING_DEPOSIT,
    Person,
    Tally,
    call,
    fetch_statements,
    fund,
    make_customer,
    make_operator,
    poll_all,
    send_all,
)
from core.cli.demo_service import DemoError, Service, environment_of, temporary_service

app = typer.Typer()


@app.command()
@one_line_errors
def demo(
    transfer_count: Annotated[
        int, typer.Option("--transfers", metavar="N", min=10, max=100_000, help="How many to send.")
    ] = 300,
    statements: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder that the month's statements are written to.")
    ] = Path("data/demo"),
) -> None:
    """Run a temporary service, send some hundred transfers through it, and verify the ledger.

    The month's statements are kept: JSON, CSV, PDF and ISO 20022 camt.053.
    """
    raise typer.Exit(run_demo(transfer_count, statements, out))


def run_demo(transfer_count: int, statements: Path, out: Console) -> int:
    """Run the demonstration on a temporary service and print what happens. Returns the exit status of `demonstrate`."""
    with TemporaryDirectory(prefix="giro-demo-") as folder:
        out.print(f"Starting a temporary service, with its data in {folder} …")
        try:
            with temporary_service(environment_of(Path(folder)), Path(folder) / "log.jsonl") as service:
                out.print(f"The service answers at {service.url}")
                return demonstrate(service, transfer_count, statements, out)
        except DemoError as error:
            return _fail(error, out)


def demonstrate(service: Service, transfer_count: int, statements: Path, out: Console) -> int:
    """Run the demonstration on an unused service. Returns the exit status, which is 0 if everything worked.

    It writes the month's statements to the folder `statements`, in every format.
    """
    try:
        asyncio.run(_demonstrate(service, transfer_count, statements, out))
    except (DemoError, httpx2.HTTPError) as error:
        return _fail(error, out)
    return _verify(service, out)


def _fail(error: Exception, out: Console) -> int:
    out.print(f"giro: the demonstration failed: {error}", style="red", markup=False)
    return 1


async def _demonstrate(service: Service, transfer_count: int, statements: Path, out: Console) -> None:
    limits = httpx2.Limits(max_connections=CLIENTS)
    async with httpx2.AsyncClient(base_url=service.url, timeout=35, trust_env=False, limits=limits) as client:
        operator = await make_operator(client, service)
        ada, grace = [await make_customer(client, name) for name in ("Ada", "Grace")]
        out.print(
            f"Ada and Grace signed up and opened accounts; an operator funds each with {OPENING_DEPOSIT / 100:.2f}."
        )
        for person in (ada, grace):
            await fund(client, operator, person)
        started = time.perf_counter()
        tally = Tally()
        with _progress(out) as progress:
            await send_all(client, (ada, grace), transfer_count, tally, progress)
            await poll_all(client, tally, progress)
        seconds = time.perf_counter() - started
        _report(tally, seconds, out)
        await _print_ledger(client, (ada, grace), out)
        files = await fetch_statements(client, (ada, grace))
        await asyncio.to_thread(_keep, files, statements)
        out.print(f"This month's statements are in {statements}: {', '.join(files)}")


def _progress(out: Console) -> Progress:
    columns = (TextColumn("{task.description:>6}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=out)


def _report(tally: Tally, seconds: float, out: Console) -> None:
    out.print(f"{len(tally.accepted)} transfers ended in {seconds:.2f} s: {_counts(tally.ended)}")
    out.print(f"refused: {_counts(tally.refused)}; replayed for a repeated key: {tally.replayed}")
    expected = {"insufficient_funds", "account_not_found"}
    if not expected <= tally.refused.keys() or tally.replayed != 1:
        raise DemoError("an overdraft, an unknown account or a repeated key was handled wrongly")


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.most_common()) or "none"


async def _print_ledger(client: httpx2.AsyncClient, people: tuple[Person, Person], out: Console) -> None:
    total = 0
    for person in people:
        account = await call(client, "GET", f"/accounts/{person.account_id}", headers=person.headers)
        total += account["balance"]
        page = await call(client, "GET", f"/accounts/{person.account_id}/transactions?limit=5", headers=person.headers)
        heading = f"{person.name}  {account['account_number']}  {account['balance_decimal']} {account['currency']}"
        table = Table("time", "type", "amount", "balance after", title=heading, title_justify="left")
        for item in page["items"]:
            table.add_row(item["timestamp"], item["type"], item["amount_decimal"], item["balance_after_decimal"])
        out.print(table)
    out.print(f"Both balances together: {total / 100:.2f} USD, as much as was deposited.")
    if total != OPENING_DEPOSIT * len(people):
        raise DemoError("money was lost or created")


def _keep(files: Mapping[str, bytes], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _verify(service: Service, out: Console) -> int:
    done = service.call("verify")
    out.print(f"giro verify: {done.stdout.strip()}{done.stderr.strip()}", markup=False)
    return done.returncode
