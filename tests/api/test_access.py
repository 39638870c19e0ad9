"""Access: every call by every kind of caller, from a table that must list every call of the document."""

from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from time import process_time
from typing import Any
from uuid import UUID

import httpx2
import pytest
from fastapi.routing import APIRoute
from sqlalchemy import event

from core.storage import users
from core.storage.sql import WATCHERS
from core.storage.unit_of_work import unit_of_work
from tests.api.access import (
    CALLS,
    OPERATOR,
    OWN,
    OWNER,
    PUBLIC,
    Whose,
    World,
    differences,
    operation_of,
    snapshot,
)
from tests.api.conftest import Api, Person, masked, refused
from tests.api.contract import Contract
from tests.builders import rows, settle_all

NOBODY = 401, "unauthenticated"
NO_OPERATOR = 403, "forbidden"
NOT_THERE = 404, "not_found"
"""The row of a call can name another code."""


def called(*whose: Any) -> Any:
    return pytest.mark.parametrize("name", [name for name, call in CALLS.items() if call.whose in whose])


class TestTheTable:
    def test_has_exactly_the_calls_of_the_document(self, contract: Contract) -> None:
        paths = contract.document["paths"]
        described = {(path, method) for path, item in paths.items() for method in item}
        assert {operation_of(name, paths) for name in CALLS} == described

    def test_agrees_with_the_document_on_public_calls(self, contract: Contract) -> None:
        for name, call in CALLS.items():
            path, method = operation_of(name, contract.document["paths"])
            asks_who = "security" in contract.document["paths"][path][method]
            assert asks_who == (call.whose is not PUBLIC), name

    async def test_covers_every_route_that_the_document_hides(self, api: Api, contract: Contract) -> None:
        assert all(isinstance(route, APIRoute) for route in api.app.routes)
        hidden = {r.path for r in api.app.routes if isinstance(r, APIRoute) and not r.include_in_schema}
        assert hidden == {
            "/docs",
            "/docs/assets/{name:path}",
            "/docs/errors",
            "/docs/oauth2-redirect",
            "/openapi.json",
        }
        assert not hidden & contract.document["paths"].keys()


REFUSED: dict[Whose, dict[str, tuple[int, str]]] = {
    PUBLIC: {},
    OWN: {"nobody": NOBODY, "deactivated": NOBODY},
    OWNER: {"nobody": NOBODY, "deactivated": NOBODY, "eve": NOT_THERE, "operator": NOT_THERE},
    OPERATOR: {"nobody": NOBODY, "deactivated": NOBODY, "eve": NO_OPERATOR, "ada": NO_OPERATOR},
}
"""The callers that a call rejects, and the answer they get. All others are accepted. Ada is the owner; `deactivated` is
the last caller that was accepted."""


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_answers_every_caller_as_its_row_states(world: World, name: str) -> None:
    call = CALLS[name]
    people = {"nobody": None, "eve": world.eve, "ada": world.ada, "operator": world.operator}
    if call.whose is not OPERATOR:  # rejected callers come first, because an accepted one may change something
        people["ada"] = people.pop("ada")
    for who, person in people.items():
        if refusal := REFUSED[call.whose].get(who):
            await assert_refused(world, name, person, refusal)
        else:
            answer = await world.ask(name, person)
            assert answer.status_code == call.status, f"{who}: {answer.text}"
    if call.whose is not PUBLIC:
        last = list(people.values())[-1]
        deactivate(world, last)
        await assert_refused(world, name, last, REFUSED[call.whose]["deactivated"])


async def assert_refused(world: World, name: str, person: Person | None, refusal: tuple[int, str]) -> None:
    """Check that a call is rejected without an effect, with the same answer as for a missing thing."""
    before = snapshot(world.database)
    real, invented = await world.ask(name, person), await world.ask(name, person, world.missing)
    status, code = refusal
    refused(real, status, CALLS[name].code or code if refusal is NOT_THERE else code)
    assert masked(real) == masked(invented)
    assert headers_of(real) == headers_of(invented)
    assert differences(before, snapshot(world.database)) == []


def headers_of(answer: httpx2.Response) -> dict[str, str]:
    """The headers of an answer, except those that differ with every request."""
    return {name: value for name, value in answer.headers.items() if name not in ("x-request-id", "ratelimit")}


def deactivate(world: World, person: Person | None) -> None:
    assert person is not None
    (row,) = rows(world.database, "SELECT id FROM users WHERE email = ?", person.email)
    with unit_of_work(world.database) as connection:
        users.set_active(connection, row["id"], active=False)


class TestAThingOfAnotherUser:
    """An operator is another user, too: the calls for operators are below /operator."""

    @called(OWN)
    async def test_is_in_no_answer_to_others(self, world: World, name: str) -> None:
        for who in (world.eve, world.operator):
            answer = await world.ask(name, who)
            assert answer.status_code == CALLS[name].status, answer.text
            assert [secret for secret in world.secrets if secret in answer.text + str(answer.headers)] == []

    async def test_runs_the_same_statements_as_a_missing_one(self, world: World) -> None:
        """The time of an answer depends on the statements that were run: they are the same, in the same order."""
        for name in [name for name, call in CALLS.items() if call.whose is OWNER]:
            done = []
            for things in (world.things, world.missing):
                with statements(world.api) as run:
                    await world.ask(name, world.eve, things)
                done.append(run)
            assert done[0] == done[1], name
            assert done[0], f"{name} at least looks the thing up"

    @pytest.mark.parametrize("name", ["GET /accounts/{account_id}", "GET /transfers/{transfer_id}"])
    async def test_takes_as_long_as_a_missing_one(self, world: World, name: str) -> None:
        """Measured in CPU time and in turns, so that other work on the machine affects both alike."""
        ratios = []
        while len(ratios) < 3:  # a real difference would show each time
            times: tuple[list[float], list[float]] = [], []
            for turn in range(100):
                started = process_time()
                await world.ask(name, world.eve, world.things if turn % 2 else world.missing)
                times[turn % 2].append(process_time() - started)
            ratios.append(median(times[1]) / median(times[0]))
            if ratios[-1] == pytest.approx(1, abs=0.15):
                return
        pytest.fail(f"another user's thing takes {ratios} times as long as a missing one")


@contextmanager
def statements(api: Api) -> Iterator[list[str]]:
    """Every statement that the application runs in the meantime, on any connection."""
    run: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        run.append(statement)

    engines = (api.runtime.database.writer, api.runtime.database.async_reader.sync_engine)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    WATCHERS.append(watcher := lambda statement, _values: run.append(statement))
    yield run
    WATCHERS.remove(watcher)
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)


class TestAPayee:
    async def test_sees_a_transfer_only_once_it_is_completed(self, world: World) -> None:
        path = f"/transfers/{world.things['transfer_id']}"
        refused(await world.eve.get(path), 404, "transfer_not_found")
        assert (await world.eve.get("/transfers")).json()["items"] == []
        settle_all(world.database)
        assert (await world.eve.get(path)).json()["status"] == "completed"

    async def test_cannot_cancel_a_transfer_of_another_submitter(self, world: World) -> None:
        settle_all(world.database)
        answer = await world.eve.post(f"/transfers/{world.things['transfer_id']}/cancel")
        refused(answer, 409, "transfer_not_cancellable")


class TestACursor:
    @pytest.mark.parametrize("path", ["/accounts", "/transfers", "/cards", "/accounts/{account_id}/transactions"])
    async def test_of_another_user_is_invalid(self, world: World, path: str) -> None:
        """A page of one item leaves more items for a cursor; cards have to be made for that."""
        await world.ask("POST /cards", world.ada)
        theirs = path.replace("{account_id}", world.things["account_id"])
        cursor = (await world.ada.get(f"{theirs}?limit=1")).json()["next_cursor"]
        assert cursor
        own = path.replace("{account_id}", world.accounts[world.eve.email])
        answer = await world.eve.get(own, params={"cursor": cursor})
        refused(answer, 422, "validation_failed", "query.cursor")
        assert masked(answer) == masked(await world.eve.get(own, params={"cursor": "made-up"}))


class TestALineOfABatch:
    async def test_from_another_users_account_is_rejected_like_one_from_a_missing_account(self, world: World) -> None:
        def body(account: str) -> Any:
            order = {"from_account_id": account, "to_account_id": world.accounts[world.eve.email], "amount": 1}
            return {"mode": "independent", "transfers": [order]}

        accounts = (world.things["account_id"], world.missing["account_id"])
        answers = [
            await world.eve.post("/transfers/bulk", body(account), headers={"Idempotency-Key": f"k{number}"})
            for number, account in enumerate(accounts)
        ]
        assert answers[0].status_code == 202
        assert answers[0].json()["results"] == [{"index": 0, "status": "refused", "code": "account_not_found"}]
        assert masked(answers[0]) == masked(answers[1])


class TestATransferToAnotherUser:
    async def test_reveals_only_that_the_account_exists(self, world: World) -> None:
        """A payer has to know the destination; beyond that, the answer repeats what the payer has sent."""
        (row,) = rows(
            world.database,
            "SELECT account_number FROM accounts WHERE public_id = ?",
            UUID(world.things["account_id"]).bytes,
        )
        body = {"from_account_id": world.accounts[world.eve.email], "amount": 1}
        for payee in ({"to_account_id": world.things["account_id"]}, {"to_account_number": row["account_number"]}):
            answer = await world.eve.post("/transfers", body | payee)
            refused(answer, 400, "insufficient_funds")
            assert world.ada.email not in answer.text
