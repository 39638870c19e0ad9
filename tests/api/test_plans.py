"""Query plans: calls read a limited number of rows, however many there are."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, event

from core.domain.transfers import TransferStatus
from core.storage.sql import WATCHERS
from core.storage.sqlite.engine import Database
from tests.api.conftest import Api, Pair, Person, payment

BOUNDED_BY_A_LIMIT = re.compile(r"ORDER BY (\w+\.)?(id|height)( DESC|ASC)? LIMIT", re.IGNORECASE)
"""Plans that walk the primary key, for a limited number of rows."""

TABLES = (
    *("accounts", "audit_entries", "batches", "blocks", "cards", "endings", "refresh_tokens", "reservations"),
    *("statements", "transactions", "transfers", "users", "verifications"),
)
"""Tables that grow with customers and transfers; the others stay small."""

ALIASES = {
    "a": "accounts",
    "b": "batches",
    "e": "endings",
    "l": "transactions",
    "p": "transactions",
    "r": "reservations",
    "t": "transfers",
    "u": "users",
}


@pytest.fixture
def said() -> Iterator[dict[str, Any]]:
    """Each different statement that was run, with the values of its last run."""
    statements: dict[str, Any] = {}

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        statements[statement] = parameters[0] if many and parameters else parameters

    event.listen(Engine, "before_cursor_execute", note)
    WATCHERS.append(statements.__setitem__)
    yield statements
    WATCHERS.remove(statements.__setitem__)
    event.remove(Engine, "before_cursor_execute", note)


def scans(database: Database, statement: str, parameters: Any) -> list[str]:
    """The tables that a statement scans from one end to the other."""
    if statement.split(maxsplit=1)[0].upper() not in ("SELECT", "UPDATE", "INSERT", "DELETE", "WITH"):
        return []
    with closing(sqlite3.connect(database.path)) as raw:
        plan = [row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    if BOUNDED_BY_A_LIMIT.search(" ".join(statement.split())):
        return []
    names = [line.split()[1] for line in plan if line.startswith("SCAN ")]
    return [name for name in names if ALIASES.get(name, name) in TABLES]


async def test_no_call_scans_a_whole_table(
    api: Api,
    ada: Person,
    grace: Person,
    operator: Person,
    pair: Pair,
    database: Database,
    settle: Callable[[], int],
    said: dict[str, Any],
) -> None:
    line = payment(pair.payer, pair.payee)
    single = await ada.pay(pair.payer, pair.payee, 5)
    await ada.post("/transfers", line, headers={"Idempotency-Key": "one"})
    await ada.post("/transfers", line | {"to_account_id": str(uuid4())})
    for mode in ("independent", "atomic"):
        body = {"mode": mode, "transfers": [line] * 3}
        for _ in range(2):
            batch = (await ada.post("/transfers/bulk", body, headers={"Idempotency-Key": mode})).json()
    cancelled = await ada.pay(pair.payer, pair.payee, 5)
    await ada.post(f"/transfers/{cancelled['id']}/cancel")
    settle()
    await operator.post("/deposits", {"to_account_id": pair.payer["id"], "amount": 5})
    await operator.post("/withdrawals", {"from_account_id": pair.payer["id"], "amount": 5})
    card = (await ada.post("/cards", {"account_id": pair.payer["id"], "type": "debit"})).json()
    account = pair.payer["id"]
    for person, path in (
        (ada, f"/transfers/{single['id']}"),
        (ada, "/transfers"),
        (ada, "/transfers?status=completed&offset=1"),
        (ada, f"/transfers?account_id={account}"),
        *((ada, f"/transfers?status={status}&limit=1") for status in TransferStatus),
        (ada, "/transfers?created_from=2020-01-01T00:00:00Z&created_to=2120-01-01T00:00:00Z"),
        (ada, f"/transfers?batch_id={batch['batch_id']}"),
        (ada, f"/transfers?batch_id={batch['batch_id']}&account_id={account}&status=completed"),
        (ada, "/transfers?idempotency_key=one"),
        (grace, "/transfers"),
        (ada, "/accounts"),
        (ada, f"/accounts/{account}"),
        (ada, f"/accounts/{account}/transactions"),
        (ada, f"/accounts/{account}/statement"),
        (ada, f"/accounts/{account}/statements"),
        (ada, "/cards"),
        (ada, f"/cards/{card['id']}"),
        (ada, "/users/me"),
        (operator, "/operator/users"),
        (operator, "/operator/accounts"),
        (operator, f"/operator/accounts/{account}"),
        (operator, "/operator/transfers"),
        *((operator, f"/operator/transfers?status={status}") for status in TransferStatus),
        (operator, "/operator/queue"),
        (operator, "/operator/verification"),
        (operator, "/operator/audit"),
        (operator, "/operator/audit?action=deposit_ordered"),
    ):
        answer = await person.get(path)
        assert answer.status_code == 200, (path, answer.text)
    await ada.post(f"/cards/{card['id']}/freeze")
    await operator.post(f"/operator/accounts/{account}/freeze", {"scope": "debit"})
    found = {statement: tables for statement, values in said.items() if (tables := scans(database, statement, values))}
    assert found == {}
    assert len(said) > 60, "the calls above run the statements that matter"


def test_a_statement_that_scans_a_whole_table_is_detected(database: Database) -> None:
    assert scans(database, "SELECT * FROM transfers t WHERE t.amount = ?", (5,)) == ["t"]
    assert scans(database, "SELECT * FROM transfers ORDER BY amount LIMIT 1", ()) == ["transfers"]
    assert scans(database, "SELECT * FROM endings e JOIN transfers t ON t.id = e.id", ()) == ["e"]
    assert scans(database, "SELECT * FROM transfers WHERE id = ?", (5,)) == []
