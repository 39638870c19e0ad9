"""Changes between the first check of a request and its turn to write: a write follows the state in its turn."""

import asyncio
from collections.abc import Awaitable
from contextlib import nullcontext
from typing import Any
from uuid import UUID

import httpx2
import pytest

from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests import builders
from tests.api.access import CALLS, OPERATOR, World, differences, snapshot, writes
from tests.api.conftest import Api, Pair, Person, join, locked, payment, refused, until


async def overtaken(
    api: Api, database: Database, call: Awaitable[httpx2.Response], change: str, *values: Any
) -> httpx2.Response:
    """Make a call, and change something while it waits for its turn, after all its earlier checks."""
    with locked(database):
        asking = asyncio.ensure_future(call)
        await until(lambda: bool(api.runtime.intake._jobs) or asking.done())
        assert not asking.done(), asking.result().text
        with database.writer.connect() as connection, connection.begin():
            changed = connection.exec_driver_sql(change, values).rowcount
    assert changed == 1
    return await asking


LOSSES = {
    "deactivated": "is_active = 0",
    "logged out": "token_version = token_version + 1",
    "of another role": "role = CASE role WHEN 'operator' THEN 'customer' ELSE 'operator' END",
}


@pytest.mark.parametrize("name", writes())
async def test_a_user_who_loses_access_meanwhile_writes_nothing(world: World, name: str) -> None:
    who = world.operator if CALLS[name].whose is OPERATOR else world.ada
    before = snapshot(world.database)
    (as_it_was,) = builders.rows(world.database, "SELECT * FROM users WHERE email = ?", who.email)
    for loss, change in LOSSES.items():
        update = f"UPDATE users SET {change} WHERE email = ?"
        answer = await overtaken(world.api, world.database, world.ask(name, who), update, who.email)
        assert answer.status_code == 401, f"{loss}: {answer.text}"
        refused(answer, 401, "unauthenticated")
        put_back(world.database, as_it_was)
    assert differences(before, snapshot(world.database)) == []


def put_back(database: Database, user: dict[str, Any]) -> None:
    values = (user["is_active"], user["token_version"], user["role"], user["id"])
    with unit_of_work(database) as connection:
        connection.exec_driver_sql("UPDATE users SET is_active = ?, token_version = ?, role = ? WHERE id = ?", values)


async def test_a_user_with_access_is_served_next_to_one_who_lost_it(
    api: Api, database: Database, ada: Person, pair: Pair
) -> None:
    """One group, and one lookup of all its users: each request gets its own answer."""
    eve = join(api, database, "eve")
    theirs = await eve.open()
    with locked(database):
        calls = [
            asyncio.ensure_future(who.post(path, body))
            for who, path, body in (
                (ada, "/transfers", payment(pair.payer, pair.payee, 1)),
                (eve, "/transfers", payment(theirs, pair.payee, 1)),
                (ada, "/accounts", {"currency": "EUR"}),
                (eve, "/accounts", {"currency": "EUR"}),
                (ada, "/transfers", payment(pair.payer, pair.payee, 2)),
            )
        ]
        await until(lambda: len(api.runtime.intake._jobs) == len(calls))
        with database.writer.connect() as connection, connection.begin():
            connection.exec_driver_sql("UPDATE users SET is_active = 0 WHERE email = ?", (eve.email,))
    assert [answer.status_code for answer in await asyncio.gather(*calls)] == [202, 401, 201, 401, 202]


async def test_a_deactivation_earlier_in_the_same_turn_rejects_later_requests(
    api: Api, database: Database, ada: Person, operator: Person
) -> None:
    user_id = (await ada.get("/users/me")).json()["id"]
    with locked(database):
        ending = asyncio.ensure_future(operator.post(f"/operator/users/{user_id}/deactivate"))
        await until(lambda: len(api.runtime.intake._jobs) == 1)
        opening = asyncio.ensure_future(ada.post("/accounts", {"currency": "EUR"}))
        await until(lambda: len(api.runtime.intake._jobs) == 2)
    assert (await ending).status_code == 200
    refused(await opening, 401, "unauthenticated")


_ACCOUNT = "WHERE public_id = ?"
_FROZEN = f"UPDATE accounts SET status = 'frozen', freeze_scope = 'all' {_ACCOUNT}"
_CLOSED = f"UPDATE accounts SET status = 'closed', closed_at = 1 {_ACCOUNT}"
_GIVEN_AWAY = f"UPDATE accounts SET owner_id = (SELECT id FROM users WHERE email = 'eve@example.com') {_ACCOUNT}"
_OF_ACCOUNT = f"WHERE account_id = (SELECT id FROM accounts {_ACCOUNT})"
_SPENT = f"UPDATE reservations SET reserved_low = reserved_low + 9990 {_OF_ACCOUNT}"
_CANCELLED = "UPDATE cards SET status = 'cancelled', cancelled_at = 1 WHERE public_id = ?"
_PENDING = f"UPDATE reservations SET reserved_low = reserved_low + 1 {_OF_ACCOUNT}"

CHANGES: list[tuple[str, str, str, int, str]] = [
    # call, change, changed thing, status, code
    ("POST /transfers", _FROZEN, "account_id", 409, "account_frozen"),
    ("POST /transfers", _CLOSED, "account_id", 409, "account_closed"),
    ("POST /transfers", _GIVEN_AWAY, "account_id", 404, "account_not_found"),
    ("POST /transfers", _SPENT, "account_id", 400, "insufficient_funds"),
    ("POST /transfers", _FROZEN, "empty_account_id", 409, "account_frozen"),
    ("POST /transfers", _CLOSED, "empty_account_id", 409, "account_closed"),
    ("POST /transfers/bulk", _FROZEN, "account_id", 409, "account_frozen"),
    ("POST /transfers/bulk", _CLOSED, "account_id", 409, "account_closed"),
    ("POST /transfers/bulk", _GIVEN_AWAY, "account_id", 404, "account_not_found"),
    ("POST /transfers/bulk", _SPENT, "account_id", 400, "insufficient_funds"),
    ("POST /deposits", _FROZEN, "account_id", 409, "account_frozen"),
    ("POST /deposits", _CLOSED, "account_id", 409, "account_closed"),
    ("POST /withdrawals", _FROZEN, "account_id", 409, "account_frozen"),
    ("POST /withdrawals", _CLOSED, "account_id", 409, "account_closed"),
    ("POST /accounts/{empty_account_id}/close", _FROZEN, "empty_account_id", 409, "account_frozen"),
    ("POST /accounts/{empty_account_id}/close", _PENDING, "empty_account_id", 409, "account_has_pending"),
    ("POST /accounts/{empty_account_id}/close", _GIVEN_AWAY, "empty_account_id", 404, "account_not_found"),
    ("POST /accounts/{account_id}/statements", _GIVEN_AWAY, "account_id", 404, "account_not_found"),
    ("POST /cards", _FROZEN, "account_id", 409, "account_frozen"),
    ("POST /cards", _CLOSED, "account_id", 409, "account_closed"),
    ("POST /cards", _GIVEN_AWAY, "account_id", 404, "account_not_found"),
    ("POST /cards/{card_id}/unfreeze", _FROZEN, "account_id", 409, "account_frozen"),
    ("POST /cards/{card_id}/freeze", _CANCELLED, "card_id", 409, "card_cancelled"),
    ("POST /cards/{card_id}/unfreeze", _CANCELLED, "card_id", 409, "card_cancelled"),
    ("POST /operator/accounts/{account_id}/freeze", _CLOSED, "account_id", 409, "account_closed"),
    ("POST /operator/accounts/{account_id}/unfreeze", _CLOSED, "account_id", 409, "account_closed"),
    ("PUT /operator/accounts/{account_id}/overdraft-limit", _CLOSED, "account_id", 409, "account_closed"),
]


@pytest.mark.parametrize(("name", "change", "thing", "status", "code"), CHANGES)
async def test_a_write_follows_the_state_in_its_turn(
    world: World, name: str, change: str, thing: str, status: int, code: str
) -> None:
    who = world.operator if CALLS[name].whose is OPERATOR else world.ada
    changed = UUID(world.things[thing]).bytes
    answer = await overtaken(world.api, world.database, world.ask(name, who), change, changed)
    refused(answer, status, code)


async def test_a_transfer_that_is_settled_meanwhile_is_not_cancelled(world: World) -> None:
    with locked(world.database):
        asking = asyncio.ensure_future(world.ask("POST /transfers/{transfer_id}/cancel", world.ada))
        await until(lambda: bool(world.api.runtime.intake._jobs))
        with pytest.MonkeyPatch.context() as patch:  # the test has the turn already
            patch.setattr(world.database, "turnstile", _Held())
            builders.settle_all(world.database)
    refused(await asking, 409, "transfer_not_cancellable")


class _Held:
    """A turn that the caller already has."""

    def turn(self) -> Any:
        return nullcontext()
