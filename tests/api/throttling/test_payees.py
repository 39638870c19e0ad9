"""Guesses of payees: counted for each user, delayed beyond the free ones, and recorded."""

import asyncio
import json
from typing import Any
from uuid import UUID, uuid4

import fakeredis
import httpx2
import pytest

import api.throttling.tally
from core.domain.users import Role
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests import builders
from tests.api.conftest import Api, Json, Person, Start, join, owner_of, payment, refused
from tests.api.throttling.test_rates_and_guesses import limited, standing, unavailable
from tests.builders import rows
from tests.time_travel import Clock

FEW = {"throttle_payee_tries": 3, "throttle_longest_seconds": 8}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The scripts that were run at the queue server, in order."""
    seen: list[str] = []
    ask = api.throttling.tally.Tally._ask

    async def watched(self: Any, question: Any) -> Any:
        seen.append(question.__qualname__.split(".")[1])
        return await ask(self, question)

    monkeypatch.setattr(api.throttling.tally.Tally, "_ask", watched)
    return seen


def with_money(running: Api, database: Database, name: str = "ada") -> tuple[Person, Json]:
    """A user whose account has 100.00 USD."""
    person = join(running, database, name)
    with unit_of_work(database) as connection:
        account = builders.open_account(connection, owner_of(connection, person))
    builders.fund(database, account, 10_000)
    return person, {"id": str(account)}


async def guess(person: Person, account: Json, **more: Any) -> httpx2.Response:
    return await person.post("/transfers", payment(account, {"id": str(uuid4())}, 1), **more)


def entries(database: Database, action: str) -> list[Json]:
    query = "SELECT author_id, details FROM audit_entries WHERE action = ? ORDER BY id"
    return [json.loads(row["details"]) for row in rows(database, query, action) if row["author_id"]]


async def test_unknown_payees_delay_their_guesser_and_nobody_else(
    start: Start, database: Database, clock: Clock
) -> None:
    async with start(**FEW) as running:
        (ada, account), (grace, other) = (with_money(running, database, name) for name in ("ada", "grace"))
        for left in (2, 1, 0):
            answer = await guess(ada, account)
            refused(answer, 404, "account_not_found", "body.to_account_id")
            assert standing(answer)["payees"] == left
        for seconds in (1, 2, 4, 8, 8):
            limited(await guess(ada, account), "payees", seconds)
            limited(await ada.post("/transfers", payment(account, other, 1)), "payees", seconds)
            clock.advance(seconds=seconds)
            refused(await guess(ada, account), 404, "account_not_found")
        await grace.pay(other, account, 1)
        clock.advance(seconds=8)
        await ada.pay(account, other, 1)


async def test_payees_that_cannot_receive_count_like_unknown_ones(
    start: Start, database: Database, clock: Clock
) -> None:
    async with start(**FEW) as running:
        (ada, account), (_, other) = (with_money(running, database, name) for name in ("ada", "grace"))
        builders.freeze(database, UUID(other["id"]))
        for _ in range(3):
            refused(await ada.post("/transfers", payment(account, other, 1)), 409, "payee_cannot_receive")
        limited(await guess(ada, account), "payees", 1)


async def test_other_refusals_and_an_operators_deposits_do_not_count(start: Start, database: Database) -> None:
    async with start(**FEW) as running:
        (ada, account), (_, other) = (with_money(running, database, name) for name in ("ada", "grace"))
        operator = join(running, database, "operator", Role.OPERATOR)
        for _ in range(5):
            refused(await ada.post("/transfers", payment(account, other, 10_001)), 400, "insufficient_funds")
            refused(await ada.post("/transfers", payment(other, account, 1)), 404, "account_not_found")
            refused(await ada.post("/transfers", payment(account, account, 1)), 400, "same_account")
            nowhere = {"to_account_id": str(uuid4()), "amount": 1}
            refused(await operator.post("/deposits", nowhere), 404, "account_not_found")
        answer = await ada.post("/transfers", payment(account, other, 1))
        assert (answer.status_code, "ratelimit" in answer.headers) == (202, False)


class TestABatch:
    async def test_counts_each_line_in_one_call(
        self, start: Start, database: Database, clock: Clock, calls: list[str]
    ) -> None:
        async with start(throttle_payee_tries=40) as running:
            ada, account = with_money(running, database)
            lines = [payment(account, {"id": str(uuid4())}, 1) for _ in range(39)]
            answer = await ada.post(
                "/transfers/bulk", {"mode": "independent", "transfers": lines}, headers={"Idempotency-Key": "k"}
            )
            assert (answer.status_code, answer.json()["refused"], standing(answer)["payees"]) == (202, 39, 1)
            await guess(ada, account)
            assert calls == ["count", "count"]
            limited(await guess(ada, account), "payees", 1)
            again = {"mode": "independent", "transfers": lines}
            limited(await ada.post("/transfers/bulk", again, headers={"Idempotency-Key": "k"}), "payees", 1)

    async def test_that_is_atomic_counts_once(self, start: Start, database: Database) -> None:
        async with start(**FEW) as running:
            ada, account = with_money(running, database)
            lines = [payment(account, {"id": str(uuid4())}, 1) for _ in range(9)]
            body = {"mode": "atomic", "transfers": lines}
            answer = await ada.post("/transfers/bulk", body, headers={"Idempotency-Key": "k"})
            refused(answer, 404, "account_not_found", "body.transfers.0.to_account_id")
            assert standing(answer)["payees"] == 2

    async def test_that_is_replayed_does_not_count_again(self, start: Start, database: Database) -> None:
        async with start(**FEW) as running:
            (ada, account), (_, other) = (with_money(running, database, name) for name in ("ada", "grace"))
            lines = [payment(account, other, 1), payment(account, {"id": str(uuid4())}, 1)]
            body = {"mode": "independent", "transfers": lines}
            first, *replays = [
                await ada.post("/transfers/bulk", body, headers={"Idempotency-Key": "k"}) for _ in range(3)
            ]
            assert all(replay.content == first.content for replay in replays)
            assert standing(await guess(ada, account))["payees"] == 1


class TestTheQueueServer:
    async def test_is_not_asked_for_a_user_without_failures_nor_for_one_with_free_tries_left(
        self, start: Start, database: Database, calls: list[str]
    ) -> None:
        async with start(**FEW) as running:
            (ada, account), (_, other) = (with_money(running, database, name) for name in ("ada", "grace"))
            await ada.pay(account, other, 1)
            assert calls == []
            await guess(ada, account)
            await ada.pay(account, other, 1)
            assert calls == ["count"]

    async def test_shares_the_count_with_other_processes_at_their_first_failure(
        self, start: Start, database: Database, clock: Clock
    ) -> None:
        queue = fakeredis.FakeServer()
        async with start(queue, **FEW) as one, start(queue, **FEW) as other:
            ada, account = with_money(one, database)
            elsewhere = Person(other.client, ada.email, ada.token, "")
            for _ in range(3):
                await guess(ada, account)
            refused(await guess(elsewhere, account), 404, "account_not_found")
            limited(await guess(elsewhere, account), "payees", 2)

    async def test_that_is_away_leaves_each_process_its_own_count(
        self, start: Start, database: Database, clock: Clock
    ) -> None:
        queue = fakeredis.FakeServer()
        async with start(queue, **FEW) as running:
            ada, account = with_money(running, database)
            queue.connected = False
            for _ in range(3):
                refused(await guess(ada, account), 404, "account_not_found")
            limited(await guess(ada, account), "payees", 1)


async def test_concurrent_guesses_beyond_the_free_ones_wait_for_each_other(
    start: Start, database: Database, clock: Clock
) -> None:
    async with start(**FEW) as running:
        ada, account = with_money(running, database)
        for _ in range(3):
            await guess(ada, account)
        clock.advance(seconds=1)
        answers = await asyncio.gather(*(guess(ada, account) for _ in range(9)))
        assert sorted(answer.status_code for answer in answers) == [404] + [429] * 8


async def test_a_transfer_that_is_accepted_does_not_count(start: Start, database: Database, clock: Clock) -> None:
    async with start(**FEW) as running:
        (ada, account), (_, other) = (with_money(running, database, name) for name in ("ada", "grace"))
        for _ in range(3):
            await guess(ada, account)
        clock.advance(seconds=1)
        for _ in range(4):
            await ada.pay(account, other, 1)


class TestTheAuditLog:
    async def test_has_an_entry_beyond_the_free_guesses_at_most_once_a_minute(
        self, start: Start, database: Database, clock: Clock
    ) -> None:
        async with start(**FEW) as running:
            ada, account = with_money(running, database)
            for _ in range(2):
                await guess(ada, account)
            assert entries(database, "payees_guessed") == []
            for _ in range(4):
                await guess(ada, account)
                clock.advance(seconds=8)
            assert entries(database, "payees_guessed") == [{"tries": 3}]
            clock.advance(seconds=28)
            await guess(ada, account)
            assert entries(database, "payees_guessed") == [{"tries": 3}, {"tries": 4}]

    async def test_has_the_waits_as_refusals_of_the_user(self, start: Start, database: Database, clock: Clock) -> None:
        async with start(**FEW) as running:
            ada, account = with_money(running, database)
            for _ in range(5):
                await guess(ada, account)
            await running.runtime.refusals.flush()
        assert entries(database, "access_refused") == [{"status": 429, "route": "/transfers", "times": 2}]

    async def test_gets_the_entry_later_if_it_cannot_be_written_now(
        self, start: Start, database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with start(**FEW) as running:
            ada, account = with_money(running, database)
            for _ in range(2):
                await guess(ada, account)
            with monkeypatch.context() as patch:
                patch.setattr(type(running.runtime.intake), "run", unavailable)
                refused(await guess(ada, account), 404, "account_not_found")
            clock.advance(seconds=1)
            await guess(ada, account)
        assert entries(database, "payees_guessed") == [{"tries": 4}]


async def test_can_be_turned_off(start: Start, database: Database) -> None:
    async with start(throttle_payee_tries=0) as running:
        ada, account = with_money(running, database)
        for _ in range(20):
            answer = await guess(ada, account)
        assert (answer.status_code, "ratelimit" in answer.headers) == (404, False)
