"""The clients of the demonstration: customers and an operator, who call the service over HTTP."""

import asyncio
import random  # nosemgrep: unguessable-values-use-secrets - dice for show
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx2
from rich.progress import Progress

from core.cli.demo_service import DemoError, Service

PASSWORD = "a password for show only"
OPERATOR = "operator@example.com"
OPENING_DEPOSIT = 100_000
"""Minor units for each person: 1000.00 USD."""

CLIENTS = 16
PATIENCE_SECONDS = 90
"""Every transfer must end within this time, even if processes are killed meanwhile."""
RETRY_SECONDS = 0.2

STATEMENT_FORMATS = {
    "application/json": "json",
    "text/csv": "csv",
    "application/pdf": "pdf",
    "application/xml": "xml",
}
"""Media type → file name extension."""

Json = dict[str, Any]


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


async def make_operator(client: httpx2.AsyncClient, service: Service) -> str:
    """Make an operator with `giro operator create`, and return its token."""
    made = await asyncio.to_thread(service.call, "operator", "create", OPERATOR, stdin=PASSWORD)
    if made.returncode != 0:
        raise DemoError(made.stderr.strip())
    return await log_in(client, OPERATOR)


async def make_customer(client: httpx2.AsyncClient, name: str) -> Person:
    """Sign a customer up, log in, and open an account."""
    email = f"{name.lower()}@example.com"
    await call(client, "POST", "/signup", json={"email": email, "password": PASSWORD, "name": name})
    person = Person(name, await log_in(client, email), "")
    account = await call(client, "POST", "/accounts", headers=person.headers, json={"currency": "USD"})
    person.account_id = account["id"]
    return person


async def log_in(client: httpx2.AsyncClient, email: str) -> str:
    """Log a user in, and return the access token."""
    tokens = await call(client, "POST", "/login", data={"username": email, "password": PASSWORD})
    token: str = tokens["access_token"]
    return token


async def fund(client: httpx2.AsyncClient, operator: str, person: Person) -> None:
    """Deposit the opening balance into a customer's account."""
    headers = {"Authorization": f"Bearer {operator}", "Prefer": "wait=30", "Idempotency-Key": str(uuid4())}
    body = {"to_account_id": person.account_id, "amount": OPENING_DEPOSIT, "description": "for a start"}
    answer = await persist(client, "POST", "/deposits", headers=headers, json=body)
    if answer.status_code not in (200, 202):
        raise DemoError(f"the deposit was answered {answer.status_code}: {answer.text}")


async def send_all(
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
    answer = await persist(client, "POST", "/transfers", headers={**payer.headers, "Idempotency-Key": key}, json=body)
    if answer.status_code == 202:
        tally.replayed += answer.headers.get("Idempotent-Replayed") == "true"
        tally.accepted[answer.json()["id"]] = payer
    else:
        tally.refused[answer.json()["code"]] += 1


async def poll_all(client: httpx2.AsyncClient, tally: Tally, progress: Progress) -> None:
    """Wait until every accepted transfer has ended, and count the results."""
    task = progress.add_task("ended", total=len(tally.accepted))
    deadline = time.monotonic() + PATIENCE_SECONDS
    turns = asyncio.Semaphore(CLIENTS)

    async def poll(transfer_id: str, person: Person) -> None:
        async with turns:
            while time.monotonic() < deadline:
                answer = await persist(client, "GET", f"/transfers/{transfer_id}", headers=person.headers)
                status = answer.json()["status"]
                if status != "pending":
                    tally.ended[status] += 1
                    progress.advance(task)
                    return
                await asyncio.sleep(RETRY_SECONDS)
        raise DemoError(f"transfer {transfer_id} is still pending")

    await asyncio.gather(*(poll(*item) for item in tally.accepted.items()))


async def persist(client: httpx2.AsyncClient, method: str, path: str, **request: Any) -> httpx2.Response:
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


async def call(client: httpx2.AsyncClient, method: str, path: str, **request: Any) -> Json:
    """Send a request and return the body of its answer. Raises DemoError if it is refused."""
    answer = await client.request(method, path, **request)
    if not answer.is_success:
        raise DemoError(f"{method} {path} was answered {answer.status_code}: {answer.text}")
    body: Json = answer.json()
    return body


async def fetch_statements(client: httpx2.AsyncClient, people: tuple[Person, Person]) -> dict[str, bytes]:
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
