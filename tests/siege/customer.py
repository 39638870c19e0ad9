"""The well-behaved customer, in a process of their own: one steady load, whose calendar is fixed before it starts.

An action that is due is started although earlier ones still wait, and its time counts from the moment that it was due.
So a service that answers nothing for a second shows that second in every action of it.
"""

import asyncio
import json
import re
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

from tests.siege.figures import Sample
from tests.siege.people import Device, Person, sign_up
from tests.siege.wire import PDF, Answer, Connection, request

RATES = {"accounts": 4.0, "transfers": 2.0, "submit": 1.5, "login": 1.0, "health": 1.0, "document": 0.5}
"""Actions a second, ten in all; each submitted transfer is also polled."""
GENUINE_EVERY_SECONDS = 4
AT_ONCE = {"login": 4, "document": 1}
"""Most actions of a kind at the same time: one person's devices do not begin the next before. A later one waits for its
turn, and its time counts."""
POLL_SECONDS = 0.05
PATIENCE_SECONDS = 30
GENUINE_SECONDS = 15
"""Longest time in which a genuine person should have signed up. The attack goes on for as long."""
FRESH_SECONDS = 5
"""Age of an unused connection at which the customer opens a new one."""
LATE = "own delay"
"""How late this process starts its actions. It is part of all times, and shows how busy the machine is."""
BALANCER = "198.19.250.1"
"""The address of a load balancer on another machine, which asks whether the service is healthy."""


@dataclass(frozen=True, slots=True)
class Day:
    """What the customer's process is told."""

    port: int
    seconds: float
    grace: Person
    month: str
    device: Device
    shared: str | None = None
    """The address that genuine people sign up from, if they do."""

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Day":
        parts = {"grace": Person(**told["grace"]), "device": Device(**told["device"])}
        return cls(**{**told, **parts})

    def as_json(self) -> str:
        """Return what `of` reads."""
        return json.dumps(asdict(self))


class Missed(Exception):
    """An action that did not have its result; the text is the outcome that is counted."""


class Customer:
    """Plays one day and notes the samples."""

    def __init__(self, day: Day) -> None:
        self._day = day
        self._free: list[tuple[float, Connection]] = []
        self._polling: set[asyncio.Task[None]] = set()
        self._turns = {kind: asyncio.Semaphore(most) for kind, most in AT_ONCE.items()}
        self.samples: dict[str, list[Sample]] = {}
        self._actions: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
            "accounts": lambda: self._read("GET /accounts"),
            "transfers": lambda: self._read("GET /transfers?limit=20"),
            "submit": self._submit,
            "login": self._log_in,
            "health": self._health,
            "document": self._document,
            "shared sign-up": self._sign_up,
        }

    async def play(self) -> None:
        """Start each action when it is due, and wait until the last one has ended."""
        begun = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for due, kind in calendar(self._day.seconds, genuine=self._day.shared is not None):
                await asyncio.sleep(max(begun + due - time.monotonic(), 0))
                group.create_task(self._timed(kind, begun + due, self._actions[kind]()))
        await asyncio.gather(*self._polling)
        for _, connection in self._free:
            connection.close()

    async def _timed(self, kind: str, due: float, action: Coroutine[Any, Any, object]) -> None:
        self._note(LATE, due, "ok")
        outcome = "ok"
        try:
            async with asyncio.timeout_at(due + PATIENCE_SECONDS), self._turns.get(kind, nullcontext()):
                await action
        except Missed as missed:
            outcome = str(missed)
        except TimeoutError:
            outcome = f"no answer in {PATIENCE_SECONDS} s"
        except OSError:
            outcome = "connection lost"
        finally:
            action.close()
        self._note(kind, due, outcome)

    def _note(self, kind: str, since: float, outcome: str) -> None:
        self.samples.setdefault(kind, []).append(Sample((time.monotonic() - since) * 1000, outcome))

    # --- actions ---

    async def _read(self, start: str, expected: int = 200, headers: Mapping[str, str] = {}) -> Answer:
        return await self._ask(self._day.grace.request(start, headers=headers), expected)

    async def _submit(self) -> None:
        payer, payee = self._day.grace.accounts
        order = {"from_account_id": payer, "to_account_id": payee, "amount": 1}
        sent = self._day.grace.request("POST /transfers", order, {"Idempotency-Key": str(uuid4())})
        answer = await self._ask(sent, 202)
        # The transfer's own time begins at its 202, as a separate action.
        done = self._timed("complete", time.monotonic(), self._complete(json.loads(answer.body)["id"]))
        self._polling.add(task := asyncio.create_task(done))
        task.add_done_callback(self._polling.discard)

    async def _complete(self, transfer: str) -> None:
        while True:
            found = json.loads((await self._read(f"GET /transfers/{transfer}")).body)
            if found["status"] == "completed":
                return
            if found["status"] != "pending":
                raise Missed(found["status"])
            await asyncio.sleep(POLL_SECONDS)

    async def _log_in(self) -> None:
        grace = self._day.grace
        grace.learn(await self._ask(grace.log_in(), 200), self._day.device)

    async def _health(self) -> None:
        await self._ask(request("GET /health/ready", address=BALANCER), 200, address=BALANCER)

    async def _document(self) -> None:
        path = f"GET /accounts/{self._day.grace.accounts[0]}/statement?month={self._day.month}"
        answer = await self._ask(self._day.grace.request(path, headers={"Accept": PDF}), 200, 202)
        while answer.status == 202:
            await asyncio.sleep(POLL_SECONDS)
            made = self._day.grace.request(f"GET {answer.headers['location']}", headers={"Accept": PDF})
            answer = await self._ask(made, 200, 202)
        if not answer.body.startswith(b"%PDF"):
            raise Missed("not a PDF")

    async def _sign_up(self) -> None:
        """Sign up from the shared address, as another person each time."""
        assert self._day.shared is not None
        sent = sign_up(f"{uuid4().hex[:12]}@example.com", self._day.shared)
        await self._ask(sent, 201, address=self._day.shared)

    # --- connections ---

    async def _ask(self, data: bytes, *expected: int, address: str | None = None) -> Answer:
        answer = await self._answer(data, address or self._day.grace.address)
        if answer.status not in expected:
            raise Missed(_outcome(answer))
        return answer

    async def _answer(self, data: bytes, address: str) -> Answer:
        own = address == self._day.grace.address
        connection = (self._reused() if own else None) or await Connection.open(self._day.port, address)
        try:
            answer = await connection.ask(data)
        except BaseException:
            connection.close()
            raise
        if own:
            self._free.append((time.monotonic(), connection))
        else:
            connection.close()
        return answer

    def _reused(self) -> Connection | None:
        while self._free:
            since, connection = self._free.pop()
            if connection.is_open and time.monotonic() < since + FRESH_SECONDS:
                return connection
            connection.close()
        return None


def _outcome(answer: Answer) -> str:
    found = re.search(rb'"code": ?"(\w+)"', answer.body)
    return f"{answer.status} {found[1].decode()}" if found else str(answer.status)


def calendar(seconds: float, *, genuine: bool) -> list[tuple[float, str]]:
    """Return when each action is due, in seconds; the kinds are spread so that they do not fall together."""
    rates = RATES | ({"shared sign-up": 1 / GENUINE_EVERY_SECONDS} if genuine else {})
    plan = []
    for place, (kind, rate) in enumerate(rates.items()):
        first = (place + 1) / (len(rates) + 1) / rate
        plan += [(first + number / rate, kind) for number in range(max(int(seconds * rate), 1))]
    return sorted(plan)


def main() -> None:
    """Play the day that the standard input describes, and print the samples."""
    customer = Customer(Day.of(json.load(sys.stdin)))
    asyncio.run(customer.play())
    json.dump({kind: [asdict(sample) for sample in some] for kind, some in customer.samples.items()}, sys.stdout)


if __name__ == "__main__":
    main()
