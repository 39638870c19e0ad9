"""Every unit of work holds the lanes of what it changes. SQLite would not notice a missing one: it has one turnstile.

SQLite's authorizer tells what a unit of work writes. The acts are those that change what the lanes guard.
"""

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection

from core.domain.lanes import Lane
from core.services.transfers.settlement import settle_pending
from core.settings import Settings
from core.storage.sqlite.engine import Database
from tests.api.conftest import Pair, Person, payment
from tests.time_travel import Clock
from workers.jobs.statements import close_months

BOTH = {Lane.ACCEPT, Lane.SETTLE}
GUARDED = {
    "INSERT transfers": {Lane.ACCEPT},
    "INSERT batches": {Lane.ACCEPT},
    "UPDATE reservations.reserved_count": {Lane.ACCEPT},
    "UPDATE users.pending_limit": {Lane.ACCEPT},
    "INSERT cards": {Lane.ACCEPT},
    "INSERT transactions": {Lane.SETTLE},
    "INSERT blocks": {Lane.SETTLE},
    "INSERT endings": {Lane.SETTLE},
    "UPDATE lanes.watermark": {Lane.SETTLE},
    "UPDATE accounts.released_count": {Lane.SETTLE},
    "UPDATE accounts.balance": {Lane.SETTLE},
    "UPDATE accounts.last_transaction_id": {Lane.SETTLE},
    "INSERT accounts": BOTH,
    "UPDATE accounts.status": BOTH,
    "UPDATE accounts.freeze_scope": BOTH,
    "UPDATE accounts.overdraft_limit": BOTH,
    "UPDATE accounts.closed_at": BOTH,
    "UPDATE users.is_active": BOTH,
    "INSERT statement_runs": BOTH,
}
"""The lanes that a unit of work needs at least, by what it writes."""

WRITES = {sqlite3.SQLITE_INSERT: "INSERT", sqlite3.SQLITE_DELETE: "DELETE", sqlite3.SQLITE_UPDATE: "UPDATE"}

Written = list[tuple[set[Lane], set[str]]]


@pytest.fixture
def written(
    clock: Clock, ada: Person, grace: Person, operator: Person, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> Written:
    """The lanes of each unit of work from now on, and what it has written."""
    assert all((clock, ada, grace, operator, pair)), "made before, by builders without lanes"
    units: Written = []
    really = Database.writing

    @contextmanager
    def writing(database: Database, lanes: Collection[Lane]) -> Iterator[Connection]:
        changed: set[str] = set()

        def note(action: int, table: str, column: str | None, *_where: Any) -> int:
            if action in WRITES:
                changed.add(f"{WRITES[action]} {table}" + (f".{column}" if column else ""))
            return sqlite3.SQLITE_OK

        with really(database, lanes) as connection:
            raw: Any = connection.connection.driver_connection
            raw.set_authorizer(note)  # which also makes SQLite compile every statement again, and so ask again
            try:
                yield connection
            finally:
                raw.set_authorizer(None)
                units.append((set(lanes), changed))

    monkeypatch.setattr(Database, "writing", writing)
    return units


async def done(person: Person, method: str, path: str, body: Any = None) -> Any:
    answer = await person.request(method, path, json=body, headers={"Idempotency-Key": str(uuid4())})
    assert answer.status_code < 300, answer.text
    return answer.json()


async def test_every_unit_of_work_has_the_lanes_of_what_it_changes(
    written: Written,
    clock: Clock,
    ada: Person,
    grace: Person,
    operator: Person,
    *,
    pair: Pair,
    database: Database,
    settings: Settings,
) -> None:
    order = payment(pair.payer, pair.payee)
    spare = await done(ada, "POST", "/accounts", {"currency": "EUR"})
    await done(ada, "POST", "/cards", {"account_id": pair.payer["id"], "type": "debit"})
    await done(ada, "POST", "/transfers", order)
    await done(ada, "POST", "/transfers/bulk", {"mode": "independent", "transfers": [order, order]})
    cancelled = await done(ada, "POST", "/transfers", order | {"amount": 5})
    await done(ada, "POST", f"/transfers/{cancelled['id']}/cancel")
    settle_pending(database, batch=100, lock_ms=10)
    account = f"/operator/accounts/{pair.payee['id']}"
    user = f"/operator/users/{(await done(grace, 'GET', '/users/me'))['id']}"
    await done(operator, "POST", f"{account}/freeze", {"scope": "all"})
    await done(operator, "POST", f"{account}/unfreeze")
    await done(operator, "PUT", f"{account}/overdraft-limit", {"amount": 5})
    await done(operator, "PUT", f"{user}/pending-limit", {"transfers": 5})
    await done(operator, "POST", f"{user}/deactivate")
    await done(operator, "POST", f"{user}/reactivate")
    await done(ada, "POST", f"/accounts/{spare['id']}/close")
    clock.advance(days=62)
    close_months(database, settings)
    changes = [(change, lanes) for lanes, changed in written for change in changed]
    assert [(change, lanes) for change, lanes in changes if not GUARDED.get(change, set()) <= lanes] == []
    assert {change for change, _ in changes} >= GUARDED.keys(), "every act was done"
