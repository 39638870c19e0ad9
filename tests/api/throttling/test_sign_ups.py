"""Sign-ups of one network: they become slow before any is refused, and other networks notice nothing."""

import asyncio
from collections.abc import Iterator

import httpx2
import pytest

from api.throttling import sign_ups
from tests.api.conftest import PASSWORD, Api, Start, refused, until
from tests.api.throttling.test_rates_and_guesses import from_address
from tests.counting import counted
from tests.time_travel import Clock

OFFICE, ELSEWHERE = "203.0.113.9", "203.0.113.10"
FEW = {"throttle_sign_ups": 2, "throttle_sign_ups_longest_seconds": 1, "throttle_sign_ups_held": 2}


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The delays of sign-ups, in seconds, which take no time."""
    delays: list[float] = []

    class Instant:
        @staticmethod
        async def sleep(seconds: float) -> None:
            delays.append(seconds)

    monkeypatch.setattr(sign_ups, "asyncio", Instant)
    return delays


async def sign_up(client: httpx2.AsyncClient, name: str) -> httpx2.Response:
    return await client.post("/signup", json={"email": f"{name}@example.com", "password": PASSWORD, "name": name})


async def test_each_is_answered_twice_as_late_as_the_one_before_up_to_a_bound(
    start: Start, clock: Clock, held: list[float]
) -> None:
    async with start(**FEW) as api, from_address(api, OFFICE) as office:
        for number in range(7):
            assert (await sign_up(office, f"colleague-{number}")).status_code == 201
        assert held == [0.25, 0.5, 1, 1, 1]


async def test_other_networks_are_not_delayed(start: Start, clock: Clock, held: list[float]) -> None:
    async with start(**FEW) as api, from_address(api, OFFICE) as office, from_address(api, ELSEWHERE) as other:
        for number in range(3):
            await sign_up(office, f"colleague-{number}")
        assert (len(held), (await sign_up(other, "grace")).status_code, len(held)) == (1, 201, 1)


async def test_are_forgotten_one_a_minute(start: Start, clock: Clock, held: list[float]) -> None:
    async with start(**FEW) as api, from_address(api, OFFICE) as office:
        for number in range(2):
            await sign_up(office, f"colleague-{number}")
        clock.advance(seconds=60)
        await sign_up(office, "patient")
        assert held == []
        await sign_up(office, "hasty")
        assert held == [0.25]


async def test_only_successful_ones_count(start: Start, clock: Clock, held: list[float]) -> None:
    async with start(**FEW) as api, from_address(api, OFFICE) as office:
        await sign_up(office, "ada")
        for _ in range(3):
            refused(await sign_up(office, "ada"), 409, "email_taken")
        await sign_up(office, "grace")
        assert held == []


async def test_only_beyond_a_number_of_delayed_ones_is_one_refused(start: Start, clock: Clock) -> None:
    """Many at once count as many, and the delayed ones still get in."""
    slow = FEW | {"throttle_sign_ups_longest_seconds": 0.5, "password_hash_waiting": 100}
    async with start(**slow) as api, from_address(api, OFFICE) as office:
        for number in range(2):
            await sign_up(office, f"early-{number}")
        waiting = [asyncio.ensure_future(sign_up(office, f"late-{number}")) for number in range(2)]
        await until(lambda: api.runtime.throttles.sign_ups._held.total() == 2)
        before = counted("giro_throttled_total", route="/signup", policy="sign-ups-held")
        answer = await sign_up(office, "one-more")
        refused(answer, 429, "rate_limited")
        assert int(answer.headers["retry-after"]) == 1
        assert counted("giro_throttled_total", route="/signup", policy="sign-ups-held") == before + 1
        assert [found.status_code for found in await asyncio.gather(*waiting)] == [201, 201]
        assert (await sign_up(office, "one-more")).status_code == 201
        assert api.runtime.throttles.sign_ups._held.total() == 0


async def test_of_all_networks_keep_a_bounded_number_of_connections(
    start: Start, clock: Clock, held: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_ups, "HELD_OF_ALL", 0)
    async with start(**FEW) as api, from_address(api, OFFICE) as office:
        for number in range(2):
            assert (await sign_up(office, f"colleague-{number}")).status_code == 201
        refused(await sign_up(office, "late"), 429, "rate_limited")


async def test_are_not_delayed_if_the_setting_is_off(start: Start, clock: Clock, held: list[float]) -> None:
    async with start(throttle_sign_ups=0) as api:
        await many(api, 5)
        assert held == []


async def test_have_a_delay_in_each_process_after_its_share(start: Start, clock: Clock, held: list[float]) -> None:
    async with start(**FEW | {"api_processes": 2}) as api:
        await many(api, 2)
        assert held == [0.25]


async def many(api: Api, number: int) -> None:
    for each in range(number):
        assert (await sign_up(api.client, f"customer-{each}")).status_code == 201
