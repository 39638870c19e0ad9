"""The well-behaved customer: the calendar, and the time that an action takes."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.siege.customer import RATES, Customer, Day, Missed, calendar
from tests.siege.figures import Sample
from tests.siege.people import Device, Person

DAY = Day(port=1, seconds=1, grace=Person("grace@example.com", "198.18.1.2"), month="2026-11", device=Device())


async def played(
    kind: str, *actions: Callable[[], Coroutine[Any, Any, None]], due: float | None = None
) -> list[Sample]:
    customer = Customer(DAY)
    since = time.monotonic() if due is None else due
    await asyncio.gather(*(customer._timed(kind, since, action()) for action in actions))
    return customer.samples[kind]


async def nothing() -> None:
    pass


def failing(error: Exception) -> Callable[[], Coroutine[Any, Any, None]]:
    async def action() -> None:
        raise error

    return action


def test_the_calendar_has_ten_actions_a_second_and_one_of_each_kind_at_least() -> None:
    assert Counter(kind for _, kind in calendar(10, genuine=False)) == {k: rate * 10 for k, rate in RATES.items()}
    assert {kind for _, kind in calendar(0.1, genuine=True)} == {*RATES, "shared sign-up"}
    assert sum(RATES.values()) == 10
    assert max(due for due, _ in calendar(10, genuine=True)) < 10


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(Missed("429 rate_limited"), "429 rate_limited"), (ConnectionResetError(), "connection lost")],
)
async def test_a_failed_action_is_noted_with_its_outcome(error: Exception, outcome: str) -> None:
    assert [sample.outcome for sample in await played("accounts", failing(error))] == [outcome]


async def test_a_time_counts_from_the_moment_that_the_action_was_due() -> None:
    (sample,) = await played("accounts", nothing, due=time.monotonic() - 5)
    assert sample.ms >= 5000
    assert sample.is_ok


async def test_an_action_that_was_due_too_long_ago_has_no_answer() -> None:
    (sample,) = await played("accounts", lambda: asyncio.sleep(0), due=time.monotonic() - 31)
    assert sample.outcome == "no answer in 30 s"


async def test_documents_are_fetched_one_after_the_other() -> None:
    running = 0

    async def fetch() -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        running -= 1

    assert [sample.outcome for sample in await played("document", fetch, fetch, fetch)] == ["ok"] * 3


def test_a_day_survives_the_way_to_the_other_process() -> None:
    assert Day.of(json.loads(DAY.as_json())) == DAY
