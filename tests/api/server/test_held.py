"""Refusals of a client beyond its share are held for a moment."""

import asyncio

import httpx2
import pytest

from api.server import held
from api.server.held import HeldAnswers
from core.telemetry.metrics import http as metrics
from tests.api.conftest import Api, Person, Start, refused, until
from tests.api.throttling.test_rates_and_guesses import from_address

LONG = 600
"""Seconds: no test waits that long."""

STRANGER = "203.0.113.9"


def count() -> float:
    """Return the number of answers that are held."""
    return metrics.answers_held._value.get()


async def release(api: Api, *answers: "asyncio.Task[httpx2.Response]") -> list[httpx2.Response]:
    """Wait until all these answers are held, then send them."""
    await until(lambda: count() == len(answers))
    api.app.state.held.release()
    async with asyncio.timeout(10):
        return await asyncio.gather(*answers)


async def test_an_answer_beyond_a_rate_is_held(start: Start, ada: Person) -> None:
    async with start(refusal_seconds=LONG, limit_reads="1/600") as api:
        person = Person(api.client, ada.email, ada.token, "")
        assert (await person.get("/accounts")).status_code == 200
        (answer,) = await release(api, asyncio.create_task(person.get("/accounts")))
        refused(answer, 429, "rate_limited")
        assert count() == 0


async def test_an_answer_of_a_direct_route_is_held_too(start: Start, ada: Person) -> None:
    async with start(refusal_seconds=LONG, limit_transfers="1/600") as api:
        person = Person(api.client, ada.email, ada.token, "")
        assert (await person.post("/transfers", {})).status_code == 422
        (answer,) = await release(api, asyncio.create_task(person.post("/transfers", {})))
        refused(answer, 429, "rate_limited")


async def test_refusals_within_a_rate_are_not_held(start: Start, ada: Person) -> None:
    async with start(refusal_seconds=LONG) as api, from_address(api, STRANGER) as stranger, asyncio.timeout(10):
        person = Person(api.client, ada.email, ada.token, "")
        assert (await person.get("/accounts?limit=0")).status_code == 422
        assert (await stranger.get("/nowhere")).status_code == 404


async def test_refusals_of_one_network_beyond_its_budget_are_held(start: Start) -> None:
    async with (
        start(refusal_seconds=LONG, limit_anonymous_refusals="1/600") as api,
        from_address(api, STRANGER) as stranger,
        from_address(api, "203.0.113.10") as other,
    ):
        assert (await stranger.get("/nowhere")).status_code == 404
        task = asyncio.create_task(stranger.get("/nowhere"))
        await until(lambda: count() == 1)
        async with asyncio.timeout(10):
            assert (await other.get("/nowhere")).status_code == 404
        (answer,) = await release(api, task)
        refused(answer, 429, "rate_limited")


async def test_a_request_beyond_the_waiting_ones_is_held(
    start: Start, ada: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.runtime.reading.WAITING_EACH", 0)
    async with start(refusal_seconds=LONG) as api:
        person = Person(api.client, ada.email, ada.token, "")
        tasks = [asyncio.create_task(person.get("/accounts")) for _ in range(8)]
        await until(lambda: sum(task.done() for task in tasks) + count() == 8 and count() > 0)
        (answer, *_) = await release(api, *[task for task in tasks if not task.done()])
        refused(answer, 503, "unavailable")


async def test_an_answer_is_held_no_longer_than_its_time(start: Start, ada: Person) -> None:
    async with start(refusal_seconds=0.01, limit_reads="1/600") as api, asyncio.timeout(10):
        person = Person(api.client, ada.email, ada.token, "")
        await person.get("/accounts")
        refused(await person.get("/accounts"), 429, "rate_limited")


async def test_answers_beyond_the_most_that_may_be_held_are_sent_at_once(start: Start, ada: Person) -> None:
    async with start(refusal_seconds=LONG, limit_reads="1/600", connections=8) as api:
        person = Person(api.client, ada.email, ada.token, "")
        await person.get("/accounts")
        tasks = [asyncio.create_task(person.get("/accounts")) for _ in range(2)]
        await until(lambda: count() == 2)
        async with asyncio.timeout(10):
            refused(await person.get("/accounts"), 429, "rate_limited")
        await release(api, *tasks)


async def test_the_time_of_a_held_answer_is_not_measured(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    observed: list[float] = []
    monkeypatch.setattr("api.server.observe._observe", lambda _scope, _status, seconds: observed.append(seconds))

    async def hold(_self: HeldAnswers, _scope: object) -> float:
        return float(LONG)

    monkeypatch.setattr(held.HeldAnswers, "hold", hold)
    async with start() as api:
        await api.client.get("/nowhere")
    assert observed[0] < 0


async def test_no_answer_is_held_once_the_process_stops(start: Start, ada: Person) -> None:
    async with start(refusal_seconds=LONG, limit_reads="1/600") as api, asyncio.timeout(10):
        person = Person(api.client, ada.email, ada.token, "")
        await person.get("/accounts")
        api.app.state.held.release()
        refused(await person.get("/accounts"), 429, "rate_limited")
