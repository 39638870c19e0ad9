"""The attacks: each is a list of prepared requests that the attacker repeats over 64 connections."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.siege.attacker import Flood, Plan
from tests.siege.people import Person
from tests.siege.stage import Stage
from tests.siege.wire import FORM, MARK, PDF, form, request

CONNECTIONS = 64
RATE = 3000
"""Most requests a second of an attacker: more than one API process answers."""
SHARED = "198.19.6.6"
"""The address of a network that strangers and genuine people share."""
NUMBER = MARK.decode()
BULK_LINES = 5000
PROBED_LINES = 100
FORGED = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIyIn0.c2lnbmF0dXJl"


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack, and its description for people."""

    name: str
    says: str
    floods: Callable[[Stage, Person], Sequence[Flood]]
    hostile: bool = False
    shared: str | None = None
    """Address that genuine people sign up from meanwhile."""

    def plan(self, stage: Stage, grace: Person, *, seconds: float, seed: int) -> Plan:
        """Prepare the requests."""
        return Plan(stage.stack.port, seconds, seed, RATE, self.floods(stage, grace), self.hostile)


def _mine(stage: Stage, requests: Sequence[bytes], connections: int = CONNECTIONS) -> Flood:
    return Flood(stage.mallory.address, connections, requests)


def _readers(stage: Stage, grace: Person) -> list[Flood]:
    paths = (
        "/accounts?limit=1000",
        "/transfers?limit=1000",
        f"/accounts/{stage.large}/statement?month={stage.month}&limit=1000",
    )
    return [_mine(stage, [stage.mallory.request(f"GET {path}") for path in paths])]


def _month(stage: Stage, grace: Person) -> list[Flood]:
    path = f"/accounts/{stage.huge}/statement?month={stage.month}"
    first = stage.desk.ask(stage.mallory, f"GET {path}&limit=100")
    next_page = f"&cursor={first['next_cursor']}" if first["next_cursor"] else ""
    asked = (f"{path}&limit=1", f"{path}&limit=100", f"{path}&limit=100{next_page}")
    return [_mine(stage, [stage.mallory.request(f"GET {one}") for one in asked])]


def _bulk(stage: Stage, grace: Person) -> list[Flood]:
    chance = random.Random("bulk")
    accounts = stage.mallory.accounts[2:]
    bodies = []
    for _ in range(4):
        sides = (chance.sample(accounts, 2) for _ in range(BULK_LINES))
        bodies.append([_order(payer, payee) for payer, payee in sides])
    return [_mine(stage, [_batch(stage.mallory, orders) for orders in bodies])]


def _documents(stage: Stage, grace: Person) -> list[Flood]:
    path = f"/accounts/{stage.large}/statement?month={stage.month}"
    kinds = (PDF, PDF, "text/csv", "application/xml")
    return [_mine(stage, [stage.mallory.request(f"GET {path}", headers={"Accept": kind}) for kind in kinds])]


def _strangers(stage: Stage, grace: Person) -> list[Flood]:
    starts = ("/openapi.json", "/docs", "/health", "/health/ready", f"/nowhere/{NUMBER}", "/accounts", "/users/me")
    addresses = [f"198.19.{network}.{host}" for network in range(1, 5) for host in range(1, 9)]
    return [
        Flood(address, CONNECTIONS // len(addresses), [_anonymous(start, address) for start in starts])
        for address in addresses
    ]


def _anonymous(path: str, address: str) -> bytes:
    return request(f"GET {path}", address=address, token=FORGED if path in {"/accounts", "/users/me"} else None)


def _sign_ups(stage: Stage, grace: Person) -> list[Flood]:
    return [Flood(SHARED, CONNECTIONS, [Person(f"robot-{NUMBER}@example.com", SHARED).sign_up()])]


def _guessing(stage: Stage, grace: Person) -> list[Flood]:
    addresses = [f"198.19.7.{host}" for host in range(1, 8)] + [grace.address]
    return [Flood(address, CONNECTIONS // len(addresses), [_guess(grace.email, address)]) for address in addresses]


def _guess(email: str, address: str) -> bytes:
    fields = {"username": email, "password": f"guess number {NUMBER}".replace("@", "x")}
    return request("POST /login", address=address, body=form(fields), headers={"Content-Type": FORM})


def _payees(stage: Stage, grace: Person) -> list[Flood]:
    closed, frozen = stage.frank.accounts
    payer = stage.mallory.accounts[2]
    unknown = f"00000000-0000-4000-8000-{NUMBER}"
    orders = [_order(payer, payee) for payee in (unknown, closed, frozen)]
    single = [stage.mallory.request("POST /transfers", order) for order in orders]
    many = _batch(stage.mallory, orders * (PROBED_LINES // len(orders)))
    return [_mine(stage, [*single, many])]


def _refusals(stage: Stage, grace: Person) -> list[Flood]:
    stranger = "198.19.10.10"
    card = stage.mallory.request("POST /cards", {"account_id": f"00000000-0000-4000-8000-{NUMBER}", "type": "debit"})
    refresh = request("POST /token/refresh", address=stranger, body=json.dumps({"refresh_token": "a" * 43}).encode())
    half = CONNECTIONS // 2
    return [_mine(stage, [card], half), Flood(stranger, half, [refresh, _guess("nobody@example.com", stranger)])]


def _hostile(stage: Stage, grace: Person) -> list[Flood]:
    return []


def _order(payer: str, payee: str) -> dict[str, object]:
    return {"from_account_id": payer, "to_account_id": payee, "amount": 1}


def _batch(person: Person, orders: Sequence[dict[str, object]]) -> bytes:
    body = {"mode": "independent", "transfers": list(orders)}
    return person.request("POST /transfers/bulk", body, {"Idempotency-Key": f"siege-{NUMBER}"})


ATTACKS: Sequence[Attack] = (
    Attack("readers", "one customer reads long lists", _readers),
    Attack("month", "one customer reads the statement of a month with very many transactions", _month),
    Attack("documents", "one customer fetches large documents", _documents),
    Attack("strangers", "strangers read public pages, unknown paths, and with forged tokens", _strangers),
    Attack("sign-ups", "robots sign up behind an address that genuine people share", _sign_ups, shared=SHARED),
    Attack("guessing", "strangers guess Grace's password, also from her address", _guessing),
    Attack("payees", "one customer probes unknown, closed and frozen payees", _payees),
    Attack("hostile", "odd requests, slow heads, half-open and 2,000 silent connections", _hostile, hostile=True),
    Attack("refusals", "one customer and one stranger send what is refused", _refusals),
    Attack("bulk", "one customer submits batches of 5,000 transfers", _bulk),
)
"""All attacks; bulk is the last, because its transfers settle long after it."""
