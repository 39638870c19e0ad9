"""Payees that cannot receive: strangers are not told why."""

from collections.abc import Callable
from uuid import UUID

import pytest

from core.storage.sqlite.engine import Database
from tests import builders
from tests.api.conftest import Pair, Person, masked, payment, refused
from tests.api.routes.test_transfers import put_in_state


async def test_a_refusal_does_not_tell_whether_a_strangers_account_is_frozen_or_closed(
    ada: Person, grace: Person, pair: Pair, database: Database
) -> None:
    others = [await grace.open() for _ in range(2)]
    put_in_state(database, others[0], "all")
    put_in_state(database, others[1], "closed")
    answers = [await ada.post("/transfers", payment(pair.payer, other)) for other in others]
    assert masked(answers[0]) == masked(answers[1])
    refused(answers[0], 409, "payee_cannot_receive", "body.to_account_id")


@pytest.mark.parametrize(("state", "code"), [("all", "account_frozen"), ("closed", "account_closed")])
async def test_a_refusal_of_ones_own_payee_is_precise_and_so_is_that_of_a_deposit(
    ada: Person, operator: Person, pair: Pair, database: Database, state: str, code: str
) -> None:
    own = await ada.open()
    put_in_state(database, own, state)
    refused(await ada.post("/transfers", payment(pair.payer, own)), 409, code)
    refused(await operator.post("/deposits", {"to_account_id": own["id"], "amount": 1}), 409, code)


async def test_a_failed_transfer_shows_the_state_of_an_own_payee_and_a_deposit_of_any(
    ada: Person, operator: Person, pair: Pair, database: Database, settle: Callable[[], int]
) -> None:
    own = await ada.open()
    transfer = await ada.pay(pair.payer, own)
    deposit = (await operator.post("/deposits", {"to_account_id": own["id"], "amount": 100})).json()
    builders.freeze(database, UUID(own["id"]))
    settle()
    for person, sent in ((ada, transfer), (operator, deposit)):
        found = (await person.get(f"/transfers/{sent['id']}")).json()
        assert (found["status"], found["failure"]["code"]) == ("failed", "account_frozen")


async def test_a_failed_transfer_shows_the_same_for_a_frozen_and_a_closed_payee(
    ada: Person, grace: Person, pair: Pair, database: Database, settle: Callable[[], int]
) -> None:
    shown = []
    for change in ({"status": "frozen", "freeze_scope": "all"}, {"status": "closed", "closed_at": 1}):
        other = await grace.open()
        transfer = await ada.pay(pair.payer, other)
        builders.set_account(database, UUID(other["id"]), **change)
        settle()
        alone = (await ada.get(f"/transfers/{transfer['id']}")).json()
        (listed,) = (await ada.get("/transfers", params={"limit": 1})).json()["items"]
        assert listed == alone
        shown.append(alone["failure"])
    assert shown[0] == shown[1] == {"code": "payee_cannot_receive", "message": shown[0]["message"]}
