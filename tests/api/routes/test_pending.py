"""The bound of one user's pending transfers, as clients see it, and the operators' call that changes it."""

from typing import Any

import pytest

from core.domain.users import Role
from core.storage.sqlite.engine import Database
from tests import builders
from tests.api.conftest import Person, Start, join, payment, refused
from tests.api.routes.test_batches import BULK, batch, key, submit

SMALL = {"pending_per_user": 3, "pending_seconds": 0}


async def funded(person: Person, database: Database) -> tuple[dict[str, Any], dict[str, Any]]:
    payer, payee = await person.open(), await person.open()
    builders.fund(database, builders.UUID(payer["id"]), 1000)
    return payer, payee


async def set_limit(operator: Person, person: Person, limit: Any) -> Any:
    user_id = (await person.get("/users/me")).json()["id"]
    return await operator.request("PUT", f"/operator/users/{user_id}/pending-limit", json={"transfers": limit})


async def test_one_transfer_too_many_is_refused_with_a_time_to_retry(start: Start, database: Database) -> None:
    async with start(**SMALL) as api:
        ada, bob = join(api, database, "ada"), join(api, database, "bob")
        pair, others = await funded(ada, database), await funded(bob, database)
        for _ in range(3):
            await ada.pay(*pair, 1)
        answer = await ada.post("/transfers", payment(*pair, 1))
        refused(answer, 429, "too_many_pending")
        assert int(answer.headers["retry-after"]) >= 1
        await bob.pay(*others, 1)
        builders.settle_all(database)
        await ada.pay(*pair, 1)


@pytest.mark.parametrize("mode", ["independent", "atomic"])
async def test_a_batch_without_room_is_refused_whole_and_its_key_stays_free(
    start: Start, database: Database, mode: str
) -> None:
    async with start(**SMALL) as api:
        ada = join(api, database, "ada")
        pair = await funded(ada, database)
        lines = [payment(*pair, 1)] * 2
        await submit(ada, lines)
        answer = await ada.post(BULK, batch(lines, mode), headers=key("next"))
        refused(answer, 429, "too_many_pending")
        assert int(answer.headers["retry-after"]) >= 1
        builders.settle_all(database)
        assert (await ada.post(BULK, batch(lines, mode), headers=key("next"))).json()["accepted"] == 2


async def test_a_batch_without_any_room_is_refused_before_it_is_read_unless_it_is_a_replay(
    start: Start, database: Database
) -> None:
    async with start(**SMALL) as api:
        ada = join(api, database, "ada")
        lines = [payment(*await funded(ada, database), 1)] * 3
        first = await submit(ada, lines, name="first")
        answer = await ada.request("POST", BULK, json={"mode": "no such mode"}, headers=key("next"))
        refused(answer, 429, "too_many_pending")
        assert (await ada.post(BULK, batch(lines), headers=key("first"))).json() == first
        refused(await ada.post(BULK, batch(lines)), 400, "idempotency_key_missing")


async def test_an_operator_sets_the_number_of_one_user(start: Start, database: Database) -> None:
    async with start(**SMALL) as api:
        ada, operator = join(api, database, "ada"), join(api, database, "operator", Role.OPERATOR)
        pair = await funded(ada, database)
        answer = await set_limit(operator, ada, 5)
        assert (answer.status_code, answer.json()["pending_limit"]) == (200, 5)
        await submit(ada, [payment(*pair, 1)] * 5)
        listed = (await operator.get("/operator/users")).json()["items"]
        assert {user["email"]: user["pending_limit"] for user in listed}[ada.email] == 5
        assert "pending_limit" not in (await ada.get("/users/me")).json()
        assert (await set_limit(operator, ada, None)).json()["pending_limit"] is None
        (last, first) = (await operator.get("/operator/audit?action=pending_limit_set")).json()["items"]
        assert (first["details"], last["details"]) == (
            {"before": "default", "after": 5},
            {"before": 5, "after": "default"},
        )
        for wrong in (0, -1, "5", 1.0, 10**8):
            refused(await set_limit(operator, ada, wrong), 422, "validation_failed")


class TestTheLinesOfABatch:
    async def test_count_for_the_rate_of_transfers(self, start: Start, database: Database) -> None:
        async with start(limit_transfers="10/100") as api:
            ada = join(api, database, "ada")
            pair = await funded(ada, database)
            answer = await ada.post(BULK, batch([payment(*pair, 1)] * 6), headers=key("one"))
            assert (answer.status_code, answer.headers["ratelimit"].split(";")[1]) == (202, "r=4")
            answer = await ada.post(BULK, batch([payment(*pair, 1)] * 6), headers=key("two"))
            refused(answer, 429, "rate_limited")
            assert int(answer.headers["retry-after"]) in (29, 30), "one is taken by the refused request itself"
            assert (await ada.post(BULK, batch([payment(*pair, 1)] * 2), headers=key("two"))).status_code == 202

    async def test_may_be_more_than_a_full_allowance_and_then_take_all_of_it(
        self, start: Start, database: Database
    ) -> None:
        async with start(limit_transfers="10/100") as api:
            ada = join(api, database, "ada")
            pair = await funded(ada, database)
            lines = [payment(*pair, 1)] * 30
            assert (await ada.post(BULK, batch(lines), headers=key("one"))).status_code == 202
            refused(await ada.post(BULK, batch(lines), headers=key("two")), 429, "rate_limited")
