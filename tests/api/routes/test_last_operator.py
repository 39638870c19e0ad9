"""Two operators who deactivate each other at once: one of them stays, and can reactivate the other."""

import asyncio

from core.domain.users import Role
from core.storage.sqlite.engine import Database
from tests.api.conftest import Api, Person, join, refused


async def test_of_two_operators_who_deactivate_each_other_one_stays(
    api: Api, operator: Person, database: Database
) -> None:
    other = join(api, database, "second", Role.OPERATOR)
    own, others = [(await each.get("/users/me")).json()["id"] for each in (operator, other)]
    answers = await asyncio.gather(
        operator.post(f"/operator/users/{others}/deactivate"), other.post(f"/operator/users/{own}/deactivate")
    )
    assert sorted(answer.status_code for answer in answers) == [200, 401]
    left, itself, gone = (operator, own, others) if answers[0].status_code == 200 else (other, others, own)
    refused(await left.post(f"/operator/users/{itself}/deactivate"), 409, "last_operator", "path.user_id")
    assert (await left.get("/users/me")).json()["is_active"]
    assert (await left.post(f"/operator/users/{gone}/reactivate")).json()["is_active"]
