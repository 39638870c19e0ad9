"""The service behind the pictures: a month of a customer, and two minutes of load."""

import math
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

from tests.flows.stack import PASSWORD, Client, Stack
from tests.waiting import eventually

LOAD_SECONDS = 120
CUSTOMERS = 4
CALLS_PER_SECOND = 6
"""Of each customer, on average."""
WAVE_SECONDS = 55

MONTH = (
    ("Analytical Engines Ltd", "ada", 325_000, "Salary"),
    ("ada", "Harbour Homes", 98_000, "Rent, 12 Canal Street"),
    ("ada", "City Power", 6_420, "Electricity, customer 40517"),
    ("ada", "Corner Market", 3_875, "Groceries"),
    ("ada", "Northern Rail", 5_650, "Monthly ticket"),
    ("Grace Hopper", "ada", 2_400, "Concert tickets"),
    ("ada", "Corner Market", 4_119, "Groceries"),
    ("ada", "Punched Card Books", 2_995, "Order 7731"),
    ("ada", "Grace Hopper", 1_850, "Lunch on Tuesday"),
    ("ada", "Savings", 40_000, "Monthly savings"),
)
"""Payer, payee, minor units and description of each transfer on the statement."""


def statement(stack: Stack) -> bytes:
    """Make a month of transfers, and return the customer's statement as PDF."""
    accounts: dict[str, tuple[Client, str]] = {}
    for name in dict.fromkeys(name for payer, payee, *_ in MONTH for name in (payer, payee)):
        person = _customer(stack, "Ada Lovelace" if name == "ada" else name)
        accounts[name] = person, person.open_account(funds=0 if name == "ada" else 500_000)
    for payer, payee, amount, description in MONTH:
        person, account = accounts[payer]
        body = {"from_account_id": account, "to_account_id": accounts[payee][1], "amount": amount}
        answer = person.post("/transfers", body | {"description": description}, Prefer="wait=20")
        assert answer.status_code == 200, answer.text
    ada, account = accounts["ada"]
    answer = ada.get(f"/accounts/{account}/statement", Accept="application/pdf")
    assert answer.status_code == 200, answer.text
    return answer.content


def load(stack: Stack) -> None:
    """Have customers call the service for two minutes, sometimes more and sometimes less often."""
    customers = [_customer(stack, f"Customer {number}") for number in range(CUSTOMERS)]
    accounts = [customer.open_account(funds=10_000_000) for customer in customers]
    eventually(lambda: customers[0].balance(accounts[0]) > 0)
    began = time.monotonic()
    stopped = threading.Event()
    with ThreadPoolExecutor(CUSTOMERS) as pool:
        try:
            runs = [pool.submit(_call, customers, accounts, number, began, stopped) for number in range(CUSTOMERS)]
            for run in runs:
                run.result()
        finally:
            stopped.set()


def _customer(stack: Stack, name: str) -> Client:
    email = f"{uuid4().hex[:12]}@example.com"
    answer = stack.client.post("/signup", json={"email": email, "password": PASSWORD, "name": name})
    assert answer.status_code == 201, answer.text
    return stack.log_in(email)


def _call(customers: list[Client], accounts: list[str], number: int, began: float, stopped: threading.Event) -> None:
    dice = random.Random(number)
    me, mine, others = customers[number], accounts[number], [*accounts[:number], *accounts[number + 1 :]]
    calls = {
        lambda: me.submit(mine, dice.choice(others), dice.randint(1, 900)): 10,
        lambda: me.submit(mine, dice.choice(others), dice.randint(1, 900), Prefer="wait=2"): 4,
        lambda: me.get(f"/accounts/{mine}"): 5,
        lambda: me.get(f"/accounts/{mine}/transactions?limit=20"): 3,
        lambda: me.get("/transfers?limit=20"): 2,
        lambda: me.submit(mine, mine): 1,
        lambda: me.submit(mine, dice.choice(others), 10**12): 1,
    }
    while (elapsed := time.monotonic() - began) < LOAD_SECONDS:
        (call,) = dice.choices(list(calls), list(calls.values()))
        call()
        rate = CALLS_PER_SECOND * (1 + 0.7 * math.sin(2 * math.pi * elapsed / WAVE_SECONDS + number / 2))
        if stopped.wait(dice.expovariate(rate)):
            return
