"""Sign-ups of one network: they come in the order of arrival, at a pace, and other networks notice nothing."""

import asyncio
import itertools
import time
from typing import Any

import httpx2
import pytest

from api.runtime.sign_ups import TOGETHER, SignUps, sign_ups_of
from core.domain.errors import Crowded, Unavailable
from core.settings import Settings
from tests.api.conftest import PASSWORD, Start, refused, until
from tests.api.throttling.test_rates_and_guesses import from_address
from tests.counting import counted
from tests.time_travel import Clock

OFFICE, ELSEWHERE = "203.0.113.9", "203.0.113.10"
ROBOTS = 64
PACE = 0.02


def line_of(**changed: Any) -> SignUps:
    return SignUps(**{"free": 1, "seconds": PACE, "waiting": 128} | changed)


async def stays() -> None:
    """A client that never disconnects."""
    await asyncio.Event().wait()


class People:
    """People who sign up, and the times at which each had a turn."""

    def __init__(self, sign_ups: SignUps) -> None:
        self.sign_ups = sign_ups
        self.begun: list[tuple[str, float]] = []

    async def sign_up(self, name: str, network: str = OFFICE) -> None:
        async with self.sign_ups.turn(network, stays):
            self.begun.append((name, time.monotonic()))
            await asyncio.sleep(0)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.begun]


async def test_come_in_the_order_of_arrival() -> None:
    people = People(line_of())
    names = [f"customer-{number}" for number in range(20)]
    await asyncio.gather(*map(people.sign_up, names))
    assert people.names == names


async def test_keep_the_pace_beyond_the_free_ones() -> None:
    people = People(line_of(free=4))
    await asyncio.gather(*(people.sign_up(str(number)) for number in range(10)))
    times = [at for _, at in people.begun]
    paced = times[4:]
    assert all(after - before >= 0.9 * TOGETHER * PACE for before, after in zip(paced, paced[TOGETHER:], strict=False))
    assert times[4] - times[0] < 10 * PACE, "the free ones do not wait"


async def test_person_gets_in_behind_the_robots_that_came_before_and_ahead_of_those_that_come_back() -> None:
    people = People(line_of())

    async def robot(number: int) -> None:
        while "grace" not in people.names:
            await people.sign_up(f"robot-{number}")

    robots = [asyncio.create_task(robot(number)) for number in range(ROBOTS)]
    await until(lambda: len(people.begun) > ROBOTS // 2)
    before = len(people.begun)
    await people.sign_up("grace")
    assert people.names.index("grace") - before <= ROBOTS
    await asyncio.gather(*robots)


async def test_other_networks_are_not_delayed() -> None:
    people = People(line_of(seconds=60, free=TOGETHER + 1))
    office = [asyncio.create_task(people.sign_up(f"robot-{number}")) for number in range(ROBOTS)]
    await until(lambda: len(people.begun) == TOGETHER + 1 + TOGETHER)
    async with asyncio.timeout(1):
        for number in range(TOGETHER + 1):
            await people.sign_up(f"grace-{number}", ELSEWHERE)
    assert people.sign_ups.line.waiting == ROBOTS - (TOGETHER + 1) - TOGETHER
    for task in office:
        task.cancel()
    await asyncio.gather(*office, return_exceptions=True)


async def test_one_beyond_the_places_is_refused_and_those_that_have_gone_make_room() -> None:
    sign_ups = line_of(seconds=60, waiting=2)
    gone = asyncio.Event()

    async def come() -> None:
        async with sign_ups.turn(OFFICE, gone.wait):
            pass

    for _ in range(1 + TOGETHER):
        await come()
    waiting = [asyncio.create_task(come()) for _ in range(2)]
    await until(lambda: sign_ups.line.waiting == 2)
    before = counted("giro_line_refused_total", line="sign-ups")
    with pytest.raises(Crowded):
        await come()
    assert counted("giro_line_refused_total", line="sign-ups") == before + 1
    gone.set()
    async with asyncio.timeout(5):
        ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in ended] == [Unavailable] * 2
    assert sign_ups.line.waiting == 0


async def test_a_free_one_comes_back_every_minute(clock: Clock) -> None:
    people = People(line_of(seconds=60, free=2))
    for number in range(2):
        await people.sign_up(f"early-{number}")
    for minute in range(3):
        clock.advance(seconds=60)
        async with asyncio.timeout(1):
            await people.sign_up(f"patient-{minute}")
    clock.advance(seconds=59)
    for number in range(TOGETHER):
        await people.sign_up(f"hasty-{number}")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await people.sign_up("late")


async def test_have_no_pace_if_the_setting_is_off() -> None:
    people = People(line_of(free=0, seconds=60))
    async with asyncio.timeout(5):
        await asyncio.gather(*(people.sign_up(str(number)) for number in range(50)))


async def test_have_in_each_process_its_share() -> None:
    together = {"throttle_sign_ups": 3, "throttle_sign_ups_seconds": PACE, "throttle_sign_ups_waiting": 5}
    share = sign_ups_of(Settings(_env_file=None, api_processes=2, **together))
    people = People(share)
    await asyncio.gather(*(people.sign_up(str(number)) for number in range(5)))
    times = [at for _, at in people.begun]
    assert times[4] - times[2] >= 0.9 * 2 * TOGETHER * PACE
    with pytest.raises(Crowded):
        await asyncio.gather(*(people.sign_up(str(number)) for number in range(6)))


NUMBERS = itertools.count()


async def sign_up(client: httpx2.AsyncClient) -> httpx2.Response:
    name = f"customer-{next(NUMBERS)}"
    return await client.post("/signup", json={"email": f"{name}@example.com", "password": PASSWORD, "name": name})


async def test_many_at_once_all_get_in(start: Start) -> None:
    """Those that wait take no place of the passwords that wait to be hashed, and are no failed guesses yet."""
    many = {"throttle_sign_ups": 2, "throttle_sign_ups_seconds": 0.01, "throttle_sign_up_tries": 2}
    async with start(**many) as api, from_address(api, OFFICE) as office:
        answers = await asyncio.gather(*(sign_up(office) for _ in range(30)))
        assert {answer.status_code for answer in answers} == {201}


async def test_one_too_many_is_answered_503(start: Start) -> None:
    few = {"throttle_sign_ups": 1, "throttle_sign_ups_seconds": 0.1, "throttle_sign_ups_waiting": 1}
    async with start(**few) as api, from_address(api, OFFICE) as office:
        answers = await asyncio.gather(*(sign_up(office) for _ in range(TOGETHER + 2)))
        assert sorted(answer.status_code for answer in answers) == [201] * (TOGETHER + 1) + [503]
        refused(next(answer for answer in answers if answer.status_code == 503), 503, "unavailable")
