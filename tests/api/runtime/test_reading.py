"""Reading sessions are shared: the places of one user, those of strangers, and reads that wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx2
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.types import Message, Receive, Scope, Send

from api.runtime import reading
from core.storage.sqlite.connections import SESSIONS
from tests.api.conftest import PASSWORD, Api, Pair, Person, Start, refused, until

USERS = SESSIONS - reading.OF_STRANGERS
QUARTER = USERS // 4


@asynccontextmanager
async def holding(api: Api, *users: int | str) -> AsyncIterator[list[AsyncSession]]:
    """Hold one session for each of these users, given as row ids, or for networks."""
    async with AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(api.runtime.reading.session(who)) for who in users]
        for session in sessions:
            await session.execute(text("SELECT 1"))
        yield sessions


async def id_of(api: Api, person: Person) -> int:
    async with api.runtime.reading.session("tests") as session:
        query = text("SELECT id FROM users WHERE email = :email")
        row_id: int = (await session.execute(query, {"email": person.email})).scalar_one()
        return row_id


def waiting(api: Api) -> int:
    return api.runtime.reading.users.waiting


async def test_a_user_with_a_quarter_of_the_sessions_waits_and_others_do_not(
    api: Api, ada: Person, grace: Person
) -> None:
    async with holding(api, *[await id_of(api, ada)] * QUARTER) as held:
        third = asyncio.create_task(ada.get("/accounts"))
        await until(lambda: waiting(api) == 1)
        assert (await grace.get("/accounts")).status_code == 200
        await held[0].close()
        assert (await third).status_code == 200


async def test_an_operator_has_no_more_sessions_than_a_customer(api: Api, operator: Person) -> None:
    async with holding(api, *[await id_of(api, operator)] * QUARTER) as held:
        another = asyncio.create_task(operator.get("/operator/users"))
        await until(lambda: waiting(api) == 1)
        await held[0].close()
        assert (await another).status_code == 200


async def test_sign_ups_and_log_ins_need_no_session_of_users(api: Api) -> None:
    users = [-number for number in range(4) for _ in range(QUARTER)]
    async with holding(api, *users), asyncio.timeout(10):
        await api.sign_up("ada")


async def test_a_network_has_a_quarter_of_the_sessions_of_strangers(api: Api) -> None:
    async with holding(api, *["203.0.113.9"] * (reading.OF_STRANGERS // 4)):
        async with api.runtime.reading.session("203.0.113.9") as session:
            another = asyncio.create_task(session.execute(text("SELECT 1")))
            await until(lambda: api.runtime.reading.strangers.waiting == 1)
            another.cancel()
            await asyncio.wait([another])
        async with asyncio.timeout(10), holding(api, "203.0.113.10"):
            pass


async def test_a_closed_session_has_no_place_and_takes_one_again_for_its_next_query(api: Api) -> None:
    async with holding(api, *[1] * QUARTER) as (first, *_others):
        await first.close()
        async with asyncio.timeout(10), holding(api, 1):
            again = asyncio.create_task(first.execute(text("SELECT 1")))
            await until(lambda: waiting(api) == 1)
        await again


async def test_a_session_that_cannot_be_closed_leaves_its_place(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(session: AsyncSession) -> None:
        connection = await session.connection()
        await connection.invalidate()
        await connection.close()
        raise OSError("lost")

    for _ in range(QUARTER):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="lost"):
            async with holding(api, 1):
                patch.setattr(AsyncSession, "close", fail)
    async with asyncio.timeout(10), holding(api, *[1] * QUARTER):
        pass


async def test_with_all_sessions_of_users_in_use_a_read_waits_and_transfers_are_accepted(
    api: Api, ada: Person, pair: Pair
) -> None:
    async with holding(api, *[-number for number in range(4) for _ in range(QUARTER)]) as held, asyncio.timeout(10):
        read = asyncio.create_task(ada.get("/accounts"))
        await until(lambda: waiting(api) == 1)
        await ada.pay(pair.payer, pair.payee)
        await held[0].close()
        assert (await read).status_code == 200


async def test_a_read_that_waits_for_too_long_is_unavailable(
    start: Start, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "WAIT_SECONDS", 0.01)
    async with start() as api, holding(api, *[await id_of(api, ada)] * QUARTER):
        answer = await Person(api.client, ada.email, ada.token, "").get("/accounts")
    refused(answer, 503, "unavailable")
    assert answer.headers["retry-after"] == "1"


async def test_a_write_whose_result_cannot_be_read_in_time_is_not_denied(
    start: Start, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "WAIT_SECONDS", 0.01)
    async with start() as api:
        mine = Person(api.client, ada.email, ada.token, "")
        async with holding(api, *[await id_of(api, ada)] * QUARTER):
            refused(await mine.post("/accounts", {"currency": "USD"}), 503, "outcome_unknown")
        assert len((await mine.get("/accounts")).json()["items"]) == 1


async def test_a_transfer_whose_end_cannot_be_read_in_time_stays_accepted(
    start: Start, ada: Person, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "WAIT_SECONDS", 0.01)
    async with start() as api, holding(api, *[await id_of(api, ada)] * QUARTER):
        body = {"from_account_id": pair.payer["id"], "to_account_id": pair.payee["id"], "amount": 1}
        headers = {"Prefer": "wait=1", "Idempotency-Key": "1"}
        answer = await Person(api.client, ada.email, ada.token, "").post("/transfers", body, headers=headers)
    assert answer.status_code == 202


async def test_a_waiting_read_of_a_disconnected_client_leaves_the_line(
    start: Start, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "WAIT_SECONDS", 600)
    gone = asyncio.Event()
    messages = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def leaving(scope: Scope, _receive: Receive, send: Send) -> None:
        async def receive() -> Message:
            for message in messages:
                return message
            await gone.wait()
            return {"type": "http.disconnect"}

        await api.app(scope, receive, send)

    async with (
        start() as api,
        asyncio.timeout(60),
        holding(api, *[await id_of(api, ada)] * QUARTER),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(leaving), base_url="http://giro.test") as client,
    ):
        read = asyncio.create_task(Person(client, ada.email, ada.token, "").get("/accounts"))
        await until(lambda: waiting(api) == 1)
        gone.set()
        await read
        assert waiting(api) == 0


async def test_a_log_in_holds_no_session_while_its_password_is_verified(api: Api) -> None:
    await api.sign_up("ada")
    async with holding(api, *[f"203.0.113.{number}" for number in range(reading.OF_STRANGERS - 1)]):
        form = {"username": "ada@example.com", "password": PASSWORD}
        answers = await asyncio.gather(*(api.client.post("/login", data=form) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
