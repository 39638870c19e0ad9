"""Mass assignment: a request with a field that the call does not accept is rejected (422), so it sets nothing.

The calls come from the OpenAPI document, so new calls are covered automatically.
"""

from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from tests.api.access import CALLS, OPERATOR, PUBLIC, Call, World, operation_of, snapshot
from tests.api.conftest import Api, refused
from tests.api.contract import Contract, Json
from tests.builders import rows

OTHERS: Json = {
    # fields of people
    "user_id": str(uuid4()), "owner_id": 1, "role": "operator", "is_active": True, "is_operator": True,
    "token_version": 0, "password_hash": "x",
    # fields of all objects
    "id": str(uuid4()), "public_id": str(uuid4()), "sequence": 1, "status": "completed",
    "created_at": "2026-01-01T00:00:00Z",
    # fields of accounts
    "balance": 10**9, "available": 10**9, "reserved": 0, "overdraft_limit": 10**9,
    "account_number": "XG46GIRO00000000000042", "kind": "deposit", "freeze_scope": None, "closed_at": None,
    # fields of transfers
    "submitted_by": 1, "settled_at": None, "failure": None, "batch_id": str(uuid4()), "idempotency_key": "k",
    "amount_decimal": "1.00", "balance_after": 10**9, "answer_version": 9, "request_id": "r",
    # fields of cards and statements
    "card_number": "4000000000000002", "cvc": "123", "expiry": "12/99", "last4": "0002", "opening_balance": 0,
    # fields of no object
    "__proto__": {}, "constructor": {}, "$where": "1", "": 1,
}  # fmt: skip


WITH_BODY = [name for name, call in CALLS.items() if call.body is not None]
WITHOUT_BODY = [
    name
    for name, call in CALLS.items()
    if call.body is None and call.form is None and not name.startswith("GET") and call.whose is not PUBLIC
]


async def ask(world: World, name: str, call: Call) -> httpx2.Response:
    """Make a call as a caller that it accepts."""
    who = {PUBLIC: None, OPERATOR: world.operator}.get(call.whose, world.ada)
    return await world.make(name, call, who, world.things)


def is_refused(answer: httpx2.Response, location: str) -> bool:
    """Return whether a call was rejected because of one field, and named it."""
    body = answer.json() if answer.status_code == 422 else {}
    return body.get("code") == "validation_failed" and [e["location"] for e in body["errors"]] == [location]


def test_every_call_with_a_body_is_covered(contract: Contract) -> None:
    paths = contract.document["paths"]
    described = {
        (path, method)
        for path, item in paths.items()
        for method, operation in item.items()
        if "application/json" in operation.get("requestBody", {}).get("content", {})
    }
    assert {operation_of(name, paths) for name in WITH_BODY} == described


async def test_an_unknown_field_is_rejected(world: World, contract: Contract) -> None:
    before, wrong = snapshot(world.database), []
    for name in WITH_BODY:
        call, taken = CALLS[name], fields_of(contract, name)
        for field, value in OTHERS.items():
            if field not in taken:
                answer = await ask(world, name, with_body(call, call.body | {field: value}))
                wrong += [] if is_refused(answer, f"body.{field}") else [f"{name} {field}: {answer.text}"]
    assert wrong == []
    assert snapshot(world.database) == before


async def test_an_unknown_field_in_a_line_of_a_batch_rejects_the_whole_batch(world: World, contract: Contract) -> None:
    name = "POST /transfers/bulk"
    call, taken = CALLS[name], contract.document["components"]["schemas"]["NewTransfer"]["properties"]
    (line,) = call.body["transfers"]
    before = snapshot(world.database)
    for field, value in OTHERS.items():
        if field not in taken:
            lines = [line, line | {field: value}]
            answer = await ask(world, name, with_body(call, call.body | {"transfers": lines}))
            assert is_refused(answer, f"body.transfers.1.{field}"), answer.text
    assert snapshot(world.database) == before


@pytest.mark.parametrize("name", WITHOUT_BODY)
async def test_a_call_without_a_body_ignores_one(world: World, name: str) -> None:
    before = terms(world)
    answer = await ask(world, name, with_body(CALLS[name], OTHERS))
    assert answer.status_code == CALLS[name].status, answer.text
    assert terms(world) == before


async def test_an_unknown_field_in_the_query_of_a_write_is_rejected(world: World) -> None:
    before, wrong = snapshot(world.database), []
    for name in (*WITH_BODY, *WITHOUT_BODY):
        for field in ("status", "user_id", "role", "balance", "amount"):
            answer = await ask(world, f"{name}?{field}=1", CALLS[name])
            wrong += [] if is_refused(answer, f"query.{field}") else [f"{name} {field}: {answer.text}"]
    assert wrong == []
    assert snapshot(world.database) == before


@pytest.mark.parametrize("field", [field for field in OTHERS if field])
async def test_an_unknown_field_in_a_form_is_rejected(api: Api, field: str) -> None:
    form = {"username": "ada@example.com", "password": "correct horse battery", field: "1"}
    refused(await api.client.post("/login", data=form), 422, "validation_failed", f"body.{field}")


async def test_a_sign_up_always_makes_an_active_customer(world: World) -> None:
    body = {"email": "mallory@example.com", "password": "correct horse battery"}
    for more in ({"role": "operator"}, {"is_active": True}, {"role": "operator", "name": "M"}):
        refused(await world.api.client.post("/signup", json=body | more), 422, "validation_failed")
    made = (await world.api.client.post("/signup", json=body)).json()
    assert (made["role"], made["is_active"]) == ("customer", True)


def fields_of(contract: Contract, name: str) -> set[str]:
    path, method = operation_of(name, contract.document["paths"])
    content = contract.document["paths"][path][method]["requestBody"]["content"]["application/json"]
    reference = content["schema"]["$ref"]
    return set(contract.resolve(reference)["properties"])


def with_body(call: Call, body: Json) -> Call:
    return Call(call.whose, call.status, body, headers=call.headers, code=call.code)


def terms(world: World) -> list[dict[str, Any]]:
    """The values of people and of Ada's account that no write may change through an extra field."""
    account = UUID(world.things["account_id"]).bytes
    return [
        *rows(world.database, "SELECT id, public_id, role, created_at FROM users ORDER BY id"),
        *rows(
            world.database,
            "SELECT id, owner_id, account_number, kind, balance, overdraft_limit FROM accounts WHERE public_id = ?",
            account,
        ),
    ]
