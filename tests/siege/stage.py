"""The service under siege, with its default limits, and its people.

Only the folder and the ports are its own, and it trusts the siege as its proxy (see `wire.py`). The people and their
money come over the API, so that the siege knows nothing of the inside of the service.
"""

import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import Self
from uuid import uuid4

from tests.flows.stack import PASSWORD, Stack
from tests.siege.figures import IDLE
from tests.siege.people import Desk, Device, Person
from tests.siege.wire import PDF, request

FUNDS = 10**12
PAYERS = 6
"""Customers who fill the months of Mallory's accounts, so that no limit of one user makes that slow."""
LINES = 5000
FILL_SECONDS = 300
DRAIN_SECONDS = 300
OWN_ACCOUNTS = 12
REST_SECONDS = 1.0
RESTING = 0.1
"""Share of a processor below which the API has nothing to do."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Transactions of Mallory's two busy accounts in the current month."""

    huge: int = 100_000
    """More than a document may have."""
    large: int = 25_000
    """A document that takes long to make."""


class Stage:
    """The service and everybody in it."""

    def __init__(self, stack: Stack, sizes: Sizes) -> None:
        self.stack = stack
        self.sizes = sizes
        self.month = datetime.now(UTC).strftime("%Y-%m")
        self.desk = Desk(self.stack.port)
        self.mallory = Person("mallory@example.com", "198.18.2.10")
        self.frank = Person("frank@example.com", "198.18.3.10")
        self.operator = Person("operator@example.com", "198.18.4.10")
        self.graces: dict[str, Person] = {}
        self.filled = 0
        self.device = Device()

    # --- people ---

    def settle_in(self, phases: Sequence[str]) -> None:
        """Start the service, and let everybody sign up; each phase has its own Grace, so that none spoils another."""
        self.stack.start()
        document = json.loads(self.desk.send(request("GET /openapi.json")).body)
        self.device = Device.of(document)
        created = self.stack.giro("operator", "create", self.operator.email, stdin=PASSWORD)
        assert created.returncode == 0, created.stderr
        self.desk.let_in(self.operator, self.device)
        names = dict.fromkeys(phases)
        self.graces = {name: Person(f"grace-{n}@example.com", f"198.18.{20 + n}.10") for n, name in enumerate(names)}
        payers = [Person(f"payer-{n}@example.com", f"198.18.{100 + n}.10") for n in range(PAYERS)]
        accounts = dict.fromkeys(map(id, self.graces.values()), 2) | dict.fromkeys(map(id, payers), 1)
        accounts |= {id(self.mallory): OWN_ACCOUNTS, id(self.frank): 2}
        with ThreadPoolExecutor(2) as pool:
            everybody = [*self.graces.values(), *payers, self.mallory, self.frank]
            list(pool.map(lambda person: self._move_in(person, accounts[id(person)]), everybody))
        self._close_and_freeze()
        self._fill(payers)
        self._warm_up()
        self.rest()

    def _move_in(self, person: Person, accounts: int) -> None:
        answer = self.desk.send(person.sign_up(), person.address)
        assert answer.status == 201, answer.body
        self.desk.let_in(person, self.device)
        for _ in range(accounts):
            person.accounts.append(self.desk.ask(person, "POST /accounts", {"currency": "USD"})["id"])
        if person is not self.frank:
            for account in person.accounts:
                self.desk.ask(self.operator, "POST /deposits", {"to_account_id": account, "amount": FUNDS})

    def _close_and_freeze(self) -> None:
        closed, frozen = self.frank.accounts
        self.desk.ask(self.frank, f"POST /accounts/{closed}/close")
        self.desk.ask(self.operator, f"POST /operator/accounts/{frozen}/freeze", {"scope": "all"})

    def _warm_up(self) -> None:
        """Fetch a document: the first one of a service also loads the libraries."""
        path = f"/accounts/{self.mallory.accounts[-1]}/statement?month={self.month}"
        answer = self.desk.send(self.mallory.request(f"GET {path}", headers={"Accept": PDF}), self.mallory.address)
        assert answer.status in {200, 202}, answer.body

    @property
    def huge(self) -> str:
        """Mallory's account whose current month has more transactions than a document may have."""
        return self.mallory.accounts[0]

    @property
    def large(self) -> str:
        """Mallory's account whose documents take long."""
        return self.mallory.accounts[1]

    def _fill(self, payers: Sequence[Person]) -> None:
        """Pay into Mallory's two busy accounts, for at most some minutes."""
        self.drain()
        until = time.monotonic() + FILL_SECONDS
        batches = [self.huge] * -(-self.sizes.huge // LINES) + [self.large] * -(-self.sizes.large // LINES)

        def pay(number: int) -> int:
            payer, payee = payers[number % len(payers)], batches[number]
            order = {"from_account_id": payer.accounts[0], "to_account_id": payee, "amount": 1}
            body = {"mode": "independent", "transfers": [order] * LINES}
            sent = payer.request("POST /transfers/bulk", body, {"Idempotency-Key": str(uuid4())})
            answer = self.desk.send(sent, payer.address, patience=max(until - time.monotonic(), 0))
            accepted = json.loads(answer.body)["accepted"] if answer.status == 202 else 0
            self.drain()
            return int(accepted)

        with ThreadPoolExecutor(2) as pool:
            self.filled = sum(pool.map(pay, range(len(batches))))

    # --- state ---

    def drain(self) -> float:
        """Wait until no transfer is pending, for at most some minutes; return the seconds."""
        begun = time.monotonic()
        while self.desk.ask(self.operator, "GET /operator/queue")["pending"]:
            if time.monotonic() > begun + DRAIN_SECONDS:
                break
            time.sleep(0.2)
        return time.monotonic() - begun

    def rest(self) -> float:
        """Wait until no transfer is pending and the API has nothing left to do, for at most some minutes.

        A service also works for requests whose clients have gone. Returns the seconds.
        """
        begun = time.monotonic()
        self.drain()
        api = self.stack.pid_of("api")
        while time.monotonic() < begun + DRAIN_SECONDS:
            before = cpu_seconds(api)
            time.sleep(REST_SECONDS)
            if cpu_seconds(api) - before < RESTING * REST_SECONDS:
                break
        return time.monotonic() - begun

    def enter(self, phase: str) -> Person:
        """Log in again the people of a phase, whose tokens may be too old, and return its Grace."""
        self.desk.let_in(self.operator, self.device)
        self.desk.let_in(self.mallory, self.device)
        return self.desk.let_in(self.graces[phase if phase in self.graces else IDLE], self.device)

    def restarts(self) -> dict[str, int]:
        """Return how often the supervisor has started each child again."""
        started = [line["child"] for line in self.stack.logged("child_started")]
        return {name: started.count(name) - 1 for name in dict.fromkeys(started)}


class Scale:
    """Watches the resident memory of a process with its children while its context is open."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = Event()
        self.most_mb = 0.0
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.25):
            self.most_mb = max(self.most_mb, sum(map(resident_mb, family(self._pid))))


def family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for one in found:
        for listed in Path(f"/proc/{one}/task").glob("*/children"):
            found += map(int, _text(listed).split())
    return found


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process with its children so far."""
    fields = (_text(Path(f"/proc/{one}/stat")).rpartition(")")[2].split() for one in family(pid))
    return sum(int(field[11]) + int(field[12]) for field in fields if field) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process; 0 if it has ended."""
    pages = _text(Path(f"/proc/{pid}/statm")).split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20 if pages else 0


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
