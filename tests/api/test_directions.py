"""Bidirectional controls, with which one text looks like another: removed from names and descriptions."""

from hashlib import blake2b
from typing import Any
from uuid import UUID

import pytest

from api.routes.batches import PATH
from api.schemas.batches import NewBatch, written
from api.schemas.transfers import NewTransfer, as_given, fingerprint
from core.domain.batches import BatchMode, BatchRequest
from core.domain.texts import without_directions
from core.services.transfers import batches
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests import builders
from tests.api.conftest import PASSWORD, Api, Pair, Person, payment, refused

CONTROLS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
SENT = f"rent{CONTROLS} \u202eyraunaJ"
KEPT = "rent yraunaJ"
KEY = {"Idempotency-Key": "rent-of-january"}


def user_id(database: Database, person: Person) -> int:
    (row,) = builders.rows(database, "SELECT id FROM users WHERE email = ?", person.email)
    return int(row["id"])


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
def test_every_control_is_removed_and_all_other_characters_stay(control: str) -> None:
    assert without_directions(f"a{control}b{control}") == "ab"
    assert without_directions("שלום, ada\u200d 中") == "שלום, ada\u200d 中"


async def test_a_users_name_has_none(api: Api) -> None:
    body = {"email": "ada@example.com", "password": PASSWORD, "name": f"Ada\u202e{CONTROLS}"}
    assert (await api.client.post("/signup", json=body)).json()["name"] == "Ada"


async def test_a_name_of_nothing_else_is_too_short(api: Api) -> None:
    body = {"email": "ada@example.com", "password": PASSWORD, "name": CONTROLS}
    refused(await api.client.post("/signup", json=body), 422, "validation_failed", "body.name")


async def test_a_password_keeps_its_controls(api: Api) -> None:
    password = f"correct horse\u202e{CONTROLS}"
    await api.client.post("/signup", json={"email": "ada@example.com", "password": password})
    form = {"username": "ada@example.com", "password": password}
    assert (await api.client.post("/login", data=form)).status_code == 200


async def test_the_descriptions_of_transfers_have_none(ada: Person, operator: Person, pair: Pair) -> None:
    deposit = {"to_account_id": pair.payer["id"], "amount": 5, "description": SENT}
    withdrawal = {"from_account_id": pair.payer["id"], "amount": 5, "description": SENT}
    for answer in (
        await ada.post("/transfers", payment(pair.payer, pair.payee) | {"description": SENT}),
        await operator.post("/deposits", deposit),
        await operator.post("/withdrawals", withdrawal),
    ):
        assert answer.json()["description"] == KEPT, answer.text


async def test_the_descriptions_of_a_batch_have_none(ada: Person, pair: Pair) -> None:
    lines = [payment(pair.payer, pair.payee, 1) | {"description": SENT} for _ in range(3)]
    answer = await ada.post(PATH, {"mode": "atomic", "transfers": lines}, headers=KEY)
    assert answer.status_code == 202, answer.text
    assert [item["description"] for item in (await ada.get("/transfers?limit=3")).json()["items"]] == [KEPT] * 3


async def test_a_description_is_measured_without_them(ada: Person, pair: Pair) -> None:
    for letters, status in ((140, 202), (141, 422)):
        text = "x" * letters + CONTROLS
        answer = await ada.post("/transfers", payment(pair.payer, pair.payee, 1) | {"description": text})
        assert answer.status_code == status


async def test_a_request_is_a_replay_with_or_without_them(ada: Person, pair: Pair) -> None:
    body = payment(pair.payer, pair.payee)
    first = await ada.post("/transfers", body | {"description": SENT}, headers=KEY)
    for text in (SENT, KEPT, f"\u200f{KEPT}"):
        again = await ada.post("/transfers", body | {"description": text}, headers=KEY)
        assert (again.json(), again.headers["idempotent-replayed"]) == (first.json(), "true")
    refused(
        await ada.post("/transfers", body | {"description": "other"}, headers=KEY),
        422,
        "idempotency_key_reused",
        "header.Idempotency-Key",
    )


async def test_a_transfer_that_an_older_release_accepted_with_them_is_still_replayed(
    ada: Person, pair: Pair, database: Database
) -> None:
    body: dict[str, Any] = payment(pair.payer, pair.payee) | {"description": SENT}
    stripped = NewTransfer.model_validate(body)
    order = as_given(stripped, stripped.description)
    assert order.description == SENT
    accepted = builders.accepted(
        database,
        builders.transfer_request(
            submitted_by=user_id(database, ada),
            payer=order.from_account_id,
            payee=order.to_account_id,
            amount=order.amount,
            description=SENT,
            idempotency_key=KEY["Idempotency-Key"],
            fingerprint=fingerprint("/transfers", order),
        ),
    )
    answer = await ada.post("/transfers", body, headers=KEY)
    assert (answer.status_code, answer.json()["id"]) == (202, str(accepted.id))
    assert answer.headers["idempotent-replayed"] == "true"
    refused(
        await ada.post("/transfers", body | {"description": "x"}, headers=KEY),
        422,
        "idempotency_key_reused",
        "header.Idempotency-Key",
    )


async def test_a_batch_that_an_older_release_accepted_with_them_is_still_replayed(
    ada: Person, pair: Pair, database: Database
) -> None:
    lines = [payment(pair.payer, pair.payee, 1) | {"description": text} for text in (SENT, "plain")]
    body = NewBatch.model_validate({"mode": "atomic", "transfers": lines})
    as_then = body.model_copy(update={"transfers": [as_given(line, line.description) for line in body.transfers]})
    request = BatchRequest(
        mode=BatchMode.ATOMIC,
        submitted_by=user_id(database, ada),
        transfers=[
            builders.transfer_request(
                submitted_by=user_id(database, ada),
                payer=UUID(pair.payer["id"]),
                payee=UUID(pair.payee["id"]),
                amount=1,
                description=line.description,
            )
            for line in as_then.transfers
        ],
        idempotency_key=KEY["Idempotency-Key"],
        fingerprint=blake2b(b"".join(written(PATH, as_then)), digest_size=16).digest(),
    )
    with unit_of_work(database) as connection:
        accepted = batches.accept(connection, request, builders.BOUNDS)
    answer = await ada.post(PATH, {"mode": "atomic", "transfers": lines}, headers=KEY)
    assert (answer.json()["batch_id"], answer.headers["idempotent-replayed"]) == (str(accepted.id), "true")
