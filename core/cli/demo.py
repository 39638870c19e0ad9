"""`giro demo`: a temporary service, two customers, a few hundred transfers, a verification.

It does everything from outside, as a client would: over HTTP, and with `giro` commands.
"""

import asyncio
import os
import random  # nosemgrep: chance-that-matters-is-secret - dice for show
import socket
import subprocess  # nosec B404 # commands are lists of words
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any
from uuid import uuid4

import httpx2
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from core.cli.console import one_line_errors, out

app = typer.Typer()

PASSWORD = "a password for show only"
OPERATOR = "operator@example.com"
OPENING_DEPOSIT = 100_000
"""Minor units for each person: 1000.00 USD."""

CLIENTS = 16
PATIENCE_SECONDS = 90
"""Every transfer must end within this time, even if processes are killed meanwhile."""
RETRY_SECONDS = 0.2
STOP_SECONDS = 15

STATEMENT_FORMATS = {
    "application/json": "json",
    "text/csv": "csv",
    "application/pdf": "pdf",
    "application/xml": "xml",
}
"""Media type → file name extension."""

Json = dict[str, Any]


class DemoError(Exception):
    """The demonstration failed. The message is one line."""


@dataclass(slots=True)
class Person:
    """A customer with an account and a token."""

    name: str
    token: str
    account_id: str

    @property
    def headers(self) -> dict[str, str]:
        """The headers that authenticate this person's requests."""
        return {"Authorization": f"Bearer {self.token}"}


Order = tuple[Person, str, int, str]
"""The payer, the payee's account id, minor units, and the idempotency key."""


@dataclass(slots=True)
class Tally:
    """The results of the transfers that were sent."""

    accepted: dict[str, Person] = field(default_factory=dict)
    """Transfer id → the payer, who sent it."""
    refused: Counter[str] = field(default_factory=Counter)
    replayed: int = 0
    ended: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Service:
    """A running service, as seen from outside: its URL, and how to call `giro` for it."""

    url: str
    giro: Sequence[str]
    environment: Mapping[str, str]

    def call(self, *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a `giro` command and wait for its end."""
        command = [*self.giro, *arguments]
        return subprocess.run(  # nosec B603 # a list of words, and no shell
            command, env=self.environment, input=stdin, text=True, capture_output=True, check=False
        )


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
            with _service(_environment(Path(folder)), Path(folder) / "log.jsonl") as service:
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


def _environment(folder: Path) -> dict[str, str]:
    """Return the settings of a service that does not disturb any other."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIRO_")}
    for name in ("DATABASE_URL", "REDIS_URL", "JWT_SECRET", "SENTRY_DSN"):
        # Set to empty, not left out: a .env file here must not direct the demonstration to real data.
        kept[name] = ""
    metrics = {f"GIRO_METRICS_PORT_{name}": "0" for name in ("API", "SETTLEMENT", "JOBS", "SCHEDULER")}
    return {
        **kept,
        **metrics,
        "GIRO_DATA_DIR": str(folder / "data"),
        "GIRO_HOST": "127.0.0.1",
        "GIRO_PORT": str(_free_port()),
        "GIRO_LOG_FORMAT": "json",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _service(environment: Mapping[str, str], log: Path) -> Iterator[Service]:
    """Run `giro up` until the block ends. Yields the service when it is ready."""
    giro = [sys.executable, "-m", "core.cli"]
    url = f"http://127.0.0.1:{environment['GIRO_PORT']}"
    with log.open("wb") as output:
        # A list of words, and no shell.
        process = subprocess.Popen([*giro, "up"], env=environment, stdout=output, stderr=output)  # nosec B603
    try:
        _wait_until_ready(process, url, log)
        yield Service(url, giro, environment)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DemoError(f"the service ended: {log.read_text()[-500:]}")
        try:
            if httpx2.get(f"{url}/health/ready", trust_env=False).status_code == 200:
                return
        except httpx2.HTTPError:
            pass
        time.sleep(RETRY_SECONDS / 2)
    raise DemoError("the service did not become ready")


async def _demonstrate(service: Service, transfer_count: int, statements: Path, out: Console) -> None:
    limits = httpx2.Limits(max_connections=CLIENTS)
    async with httpx2.AsyncClient(base_url=service.url, timeout=35, trust_env=False, limits=limits) as client:
        operator = await _operator(client, service)
        ada, grace = [await _person(client, name) for name in ("Ada", "Grace")]
        out.print(
            f"Ada and Grace signed up and opened accounts; an operator funds each with {OPENING_DEPOSIT / 100:.2f}."
        )
        for person in (ada, grace):
            await _fund(client, operator, person)
        started = time.perf_counter()
        tally = Tally()
        with _progress(out) as progress:
            await _send_all(client, (ada, grace), transfer_count, tally, progress)
            await _poll_all(client, tally, progress)
        seconds = time.perf_counter() - started
        _report(tally, seconds, out)
        await _print_ledger(client, (ada, grace), out)
        files = await _statements(client, (ada, grace))
        await asyncio.to_thread(_keep, files, statements)
        out.print(f"This month's statements are in {statements}: {', '.join(files)}")


async def _operator(client: httpx2.AsyncClient, service: Service) -> str:
    made = await asyncio.to_thread(service.call, "operator", "create", OPERATOR, stdin=PASSWORD)
    if made.returncode != 0:
        raise DemoError(made.stderr.strip())
    return await _log_in(client, OPERATOR)


async def _person(client: httpx2.AsyncClient, name: str) -> Person:
    email = f"{name.lower()}@example.com"
    await _call(client, "POST", "/signup", json={"email": email, "password": PASSWORD, "name": name})
    person = Person(name, await _log_in(client, email), "")
    account = await _call(client, "POST", "/accounts", headers=person.headers, json={"currency": "USD"})
    person.account_id = account["id"]
    return person


async def _log_in(client: httpx2.AsyncClient, email: str) -> str:
    tokens = await _call(client, "POST", "/login", data={"username": email, "password": PASSWORD})
    token: str = tokens["access_token"]
    return token


async def _fund(client: httpx2.AsyncClient, operator: str, person: Person) -> None:
    headers = {"Authorization": f"Bearer {operator}", "Prefer": "wait=30", "Idempotency-Key": str(uuid4())}
    body = {"to_account_id": person.account_id, "amount": OPENING_DEPOSIT, "description": "for a start"}
    answer = await _persist(client, "POST", "/deposits", headers=headers, json=body)
    if answer.status_code not in (200, 202):
        raise DemoError(f"the deposit was answered {answer.status_code}: {answer.text}")


async def _send_all(
    client: httpx2.AsyncClient, people: tuple[Person, Person], count: int, tally: Tally, progress: Progress
) -> None:
    """Send `count` valid transfers, then three that must be refused or replayed."""
    task = progress.add_task("sent", total=count)
    dice = random.Random(7)  # nosec B311 # the same transfers each time
    orders = [
        (people[number % 2], people[1 - number % 2].account_id, dice.randint(1, 2_000), str(uuid4()))
        for number in range(count)
    ]
    turns = asyncio.Semaphore(CLIENTS)

    async def send(order: Order) -> None:
        async with turns:
            await _send(client, tally, order)
            progress.advance(task)

    await asyncio.gather(*map(send, orders))
    ada, grace = people
    await _send(client, tally, (ada, grace.account_id, 10 * OPENING_DEPOSIT, str(uuid4())))
    await _send(client, tally, (ada, str(uuid4()), 100, str(uuid4())))
    await _send(client, tally, orders[0])


async def _send(client: httpx2.AsyncClient, tally: Tally, order: Order) -> None:
    payer, payee, amount, key = order
    body = {"from_account_id": payer.account_id, "to_account_id": payee, "amount": amount}
    answer = await _persist(client, "POST", "/transfers", headers={**payer.headers, "Idempotency-Key": key}, json=body)
    if answer.status_code == 202:
        tally.replayed += answer.headers.get("Idempotent-Replayed") == "true"
        tally.accepted[answer.json()["id"]] = payer
    else:
        tally.refused[answer.json()["code"]] += 1


async def _poll_all(client: httpx2.AsyncClient, tally: Tally, progress: Progress) -> None:
    task = progress.add_task("ended", total=len(tally.accepted))
    deadline = time.monotonic() + PATIENCE_SECONDS
    turns = asyncio.Semaphore(CLIENTS)

    async def poll(transfer_id: str, person: Person) -> None:
        async with turns:
            while time.monotonic() < deadline:
                answer = await _persist(client, "GET", f"/transfers/{transfer_id}", headers=person.headers)
                status = answer.json()["status"]
                if status != "pending":
                    tally.ended[status] += 1
                    progress.advance(task)
                    return
                await asyncio.sleep(RETRY_SECONDS)
        raise DemoError(f"transfer {transfer_id} is still pending")

    await asyncio.gather(*(poll(*item) for item in tally.accepted.items()))


async def _persist(client: httpx2.AsyncClient, method: str, path: str, **request: Any) -> httpx2.Response:
    """Send a request until it is answered. Repeating it is safe, because it has an idempotency key."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            answer = await client.request(method, path, **request)
            if answer.status_code != 503:
                return answer
            problem = answer.text
        except httpx2.TransportError as error:
            problem = str(error)
        if time.monotonic() > deadline:
            raise DemoError(f"{method} {path} was not answered: {problem}")
        await asyncio.sleep(RETRY_SECONDS)


async def _call(client: httpx2.AsyncClient, method: str, path: str, **request: Any) -> Json:
    answer = await client.request(method, path, **request)
    if not answer.is_success:
        raise DemoError(f"{method} {path} was answered {answer.status_code}: {answer.text}")
    body: Json = answer.json()
    return body


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
        account = await _call(client, "GET", f"/accounts/{person.account_id}", headers=person.headers)
        total += account["balance"]
        page = await _call(client, "GET", f"/accounts/{person.account_id}/transactions?limit=5", headers=person.headers)
        heading = f"{person.name}  {account['account_number']}  {account['balance_decimal']} {account['currency']}"
        table = Table("time", "type", "amount", "balance after", title=heading, title_justify="left")
        for item in page["items"]:
            table.add_row(item["timestamp"], item["type"], item["amount_decimal"], item["balance_after_decimal"])
        out.print(table)
    out.print(f"Both balances together: {total / 100:.2f} USD, as much as was deposited.")
    if total != OPENING_DEPOSIT * len(people):
        raise DemoError("money was lost or created")


async def _statements(client: httpx2.AsyncClient, people: tuple[Person, Person]) -> dict[str, bytes]:
    """Fetch this month's statements in every format. Returns file name → content."""
    files = {}
    for person in people:
        for media_type, extension in STATEMENT_FORMATS.items():
            headers = {**person.headers, "Accept": media_type}
            answer = await client.get(f"/accounts/{person.account_id}/statement", headers=headers)
            if answer.status_code != 200:
                raise DemoError(f"the statement as {media_type} was answered {answer.status_code}: {answer.text}")
            files[f"{person.name.lower()}.{extension}"] = answer.content
    return files


def _keep(files: Mapping[str, bytes], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _verify(service: Service, out: Console) -> int:
    done = service.call("verify")
    out.print(f"giro verify: {done.stdout.strip()}{done.stderr.strip()}", markup=False)
    return done.returncode
