"""Drills of a breach: a running service whose database file is changed halts, and operators bring it back.

`make drill` runs them too. Each changes the real file behind the back of the service, sees that nothing settles, takes
the way back of docs/how-to/when-verify-fails.md, and sees that transfers settle again.
"""

import json
import sqlite3
from contextlib import closing

import pytest

from tests.flows.stack import PASSWORD, Client, Stack
from tests.waiting import eventually

pytestmark = pytest.mark.whole_service

DATABASE = "banking.db"


def change(stack: Stack, statement: str) -> None:
    """Change the database file as an attacker does, while the service runs: its triggers are dropped and made again."""
    with closing(sqlite3.connect(stack.data / DATABASE, timeout=30, isolation_level=None)) as raw:
        raw.execute("PRAGMA ignore_check_constraints=ON")
        raw.execute("BEGIN IMMEDIATE")
        triggers = raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            raw.execute(f"DROP TRIGGER {name}")
        assert raw.execute(statement).rowcount == 1, statement
        for _, sql in triggers:
            raw.execute(sql)
        raw.execute("COMMIT")


def operator(stack: Stack, email: str) -> str:
    assert stack.giro("operator", "create", email, stdin=PASSWORD).returncode == 0
    return email


def health(stack: Stack) -> str:
    status: str = stack.client.get("/health").json()["status"]
    return status


def halt(stack: Stack, payer: Client, source: str, target: str) -> str:
    """Let a verification find the breach, and return a transfer that stays pending."""
    assert stack.giro("verify", "--keep").returncode == 1
    waiting: str = payer.submit(source, target, 1, Prefer="wait=2").json()["id"]
    assert payer.status(waiting) == "pending"
    eventually(lambda: stack.logged("settlement_halted"))
    eventually(lambda: health(stack) == "degraded")
    return waiting


@pytest.mark.timeout(240)
def test_a_changed_description_halts_until_two_operators_write_a_scar(stack: Stack) -> None:
    ada = stack.sign_up()
    source, target = ada.open_account(funds=500), ada.open_account()
    first, second = operator(stack, "first@example.com"), operator(stack, "second@example.com")
    assert ada.submit(source, target, 200, Prefer="wait=20").json()["status"] == "completed"
    change(stack, "UPDATE transfers SET description = 'forged' WHERE id = 1")
    waiting = halt(stack, ada, source, target)

    proposed = stack.giro("reseal", "--reason", "drill", "--as", first, "--json", stdin=PASSWORD)
    assert proposed.returncode == 0, proposed.stderr
    proposal = str(json.loads(proposed.stdout)["proposal"])
    assert stack.giro("reseal", "--confirm", proposal, "--as", first, stdin=PASSWORD).returncode == 1
    assert ada.status(waiting) == "pending"
    done = stack.giro("reseal", "--confirm", proposal, "--as", second, stdin=PASSWORD)
    assert done.returncode == 0, done.stdout + done.stderr

    assert ada.poll_to_end(waiting) == "completed"
    assert ada.submit(source, target, 5, Prefer="wait=20").json()["status"] == "completed"
    found = json.loads(stack.giro("verify", "--json").stdout)
    assert (found["holds"], [scar["reason"] for scar in found["scars"]]) == (True, ["drill"])
    eventually(lambda: health(stack) == "ok")


@pytest.mark.timeout(240)
def test_a_forged_balance_halts_until_its_account_is_isolated_and_the_others_settle(stack: Stack) -> None:
    ada, bob, eve = stack.sign_up(), stack.sign_up(), stack.sign_up()
    source, target, forged = ada.open_account(funds=500), bob.open_account(), eve.open_account(funds=7)
    change(stack, "UPDATE accounts SET balance = 1007 WHERE balance = 7")
    waiting = halt(stack, ada, source, target)
    touching = eve.submit(forged, target, 7).json()["id"]

    isolated = stack.giro("isolate", "--reason", "drill", "--json")
    assert isolated.returncode == 0, isolated.stdout + isolated.stderr
    assert len(json.loads(isolated.stdout)["isolation"]["accounts"]) == 1
    assert ada.poll_to_end(waiting) == "completed"
    assert eve.poll_to_end(touching) == "failed"
    assert eve.submit(forged, target, 1).json()["code"] == "account_frozen"
    assert stack.giro("verify").returncode == 1
    eventually(lambda: health(stack) == "degraded")
    assert stack.giro("isolate", "--release").returncode == 1

    balance = eve.balance(forged)
    change(stack, f"UPDATE accounts SET balance = {balance - 1000} WHERE balance = {balance}")
    released = stack.giro("isolate", "--release")
    assert released.returncode == 0, released.stdout + released.stderr
    eventually(lambda: health(stack) == "ok")
    assert ada.submit(source, target, 5, Prefer="wait=20").json()["status"] == "completed"
    assert stack.giro("verify").returncode == 0
