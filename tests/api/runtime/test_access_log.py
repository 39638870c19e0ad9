"""Refusals of access: equal ones become one entry, their number in memory is limited, and losses are logged."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import event

import api.runtime.access_log
from api.runtime.access_log import SAMPLES, AccessLog
from api.runtime.intake import Intake
from core.domain.audit import Author
from core.domain.users import SYSTEM_USER_ID
from core.storage.sqlite.engine import Database
from tests import builders
from tests.api.conftest import locked, until

Make = Callable[..., AccessLog]


@pytest.fixture
async def make(writing: Database) -> AsyncIterator[Make]:
    """Make a log of refusals with an intake that waits `patience` seconds for its turn. It is stopped at the end.

    By default it writes nothing until it is stopped or flushed.
    """
    made: list[tuple[AccessLog, Intake]] = []

    def refusals(seconds: float = 1000, patience: float = 10, **bounds: Any) -> AccessLog:
        intake = Intake(
            writing, waiting=100, group=100, seconds=patience, bounds=builders.BOUNDS, on_accepted=lambda: None
        )
        made.append((AccessLog(intake, seconds=seconds, **bounds), intake))
        return made[-1][0]

    yield refusals
    for one, intake in made:
        await one.stop()
        await intake.stop()


def by(request_id: str, *, user: int | None = None, address: str | None = "192.0.2.7") -> Author:
    return Author(user_id=user, request_id=request_id, address=address)


def written(database: Database) -> list[tuple[Any, ...]]:
    found = builders.rows(database, "SELECT * FROM audit_entries ORDER BY id")
    assert all((row["action"], row["object_id"]) == ("access_refused", None) for row in found)
    return [(row["author_id"], row["request_id"], row["address"], json.loads(row["details"])) for row in found]


def said(status: int, route: str, times: int) -> dict[str, Any]:
    return {"status": status, "route": route, "times": times}


async def test_equal_refusals_are_one_entry_with_the_first_request_and_a_count(make: Make, database: Database) -> None:
    refusals = make()
    for request_id in ("first", "second", "third"):
        refusals.add(by(request_id, user=SYSTEM_USER_ID), status=403, route="/operator/users")
    await refusals.stop()
    assert written(database) == [(SYSTEM_USER_ID, "first", "192.0.2.7", said(403, "/operator/users", 3))]


async def test_refusals_differ_by_status_route_user_and_address(make: Make, database: Database) -> None:
    refusals = make()
    for _ in range(2):
        refusals.add(by("a"), status=401, route="/accounts")
        refusals.add(by("b"), status=403, route="/accounts")
        refusals.add(by("c"), status=401, route="/transfers")
        refusals.add(by("d", user=SYSTEM_USER_ID), status=401, route="/accounts")
        refusals.add(by("e", address="192.0.2.8"), status=401, route="/accounts")
        refusals.add(by("f", address=None), status=401, route="/accounts")
    await refusals.stop()
    assert written(database) == [
        (None, "a", "192.0.2.7", said(401, "/accounts", 2)),
        (SYSTEM_USER_ID, "d", "192.0.2.7", said(401, "/accounts", 2)),
        (None, "e", "192.0.2.8", said(401, "/accounts", 2)),
        (None, "f", None, said(401, "/accounts", 2)),
        (None, "b", "192.0.2.7", said(403, "/accounts", 2)),
        (None, "c", "192.0.2.7", said(401, "/transfers", 2)),
    ]


async def test_refusals_beyond_the_sample_are_one_count_without_user_and_address(
    make: Make, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.runtime.access_log, "randbelow", lambda most: most - 1)  # the first clients stay
    refusals = make(samples=2)
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.3", "192.0.2.2"):
        refusals.add(by(f"of {address}", user=SYSTEM_USER_ID, address=address), status=401, route="/accounts")
    await refusals.stop()
    assert written(database) == [
        (SYSTEM_USER_ID, "of 192.0.2.1", "192.0.2.1", said(401, "/accounts", 1)),
        (SYSTEM_USER_ID, "of 192.0.2.2", "192.0.2.2", said(401, "/accounts", 2)),
        (None, "of 192.0.2.3", None, {"status": 401, "route": "/accounts", "others": 3}),
    ]


async def test_a_client_that_leaves_the_sample_is_still_counted(
    make: Make, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.runtime.access_log, "randbelow", lambda _most: 0)  # each new client replaces another
    refusals = make(samples=2)
    for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"):
        refusals.add(by(f"of {address}", address=address), status=401, route="/accounts")
    await refusals.stop()
    assert written(database) == [
        (None, "of 192.0.2.3", "192.0.2.3", said(401, "/accounts", 1)),
        (None, "of 192.0.2.4", "192.0.2.4", said(401, "/accounts", 1)),
        (None, "of 192.0.2.1", None, {"status": 401, "route": "/accounts", "others": 3}),
    ]


async def test_any_number_of_refusals_between_two_writes_makes_few_entries_with_an_exact_count(
    make: Make, database: Database
) -> None:
    refusals = make()
    for number in range(20_000):
        refusals.add(by("a", address=f"2001:db8::{number:x}"), status=401, route="/accounts")
    await refusals.stop()
    found = written(database)
    assert len(found) == SAMPLES + 1 == 6
    assert total(database) == 20_000
    assert [address is None for _, _, address, _ in found] == [False] * SAMPLES + [True]


async def test_a_flood_from_many_addresses_does_not_hide_one_client_on_another_route(
    make: Make, database: Database
) -> None:
    refusals = make()
    for number in range(5_000):
        refusals.add(by("flood", address=f"2001:db8::{number:x}"), status=401, route="/accounts")
        if number % 1000 == 999:
            refusals.add(by("quiet", user=SYSTEM_USER_ID, address="192.0.2.9"), status=403, route="/operator/users")
    await refusals.stop()
    assert written(database)[-1] == (SYSTEM_USER_ID, "quiet", "192.0.2.9", said(403, "/operator/users", 5))
    assert len(written(database)) == SAMPLES + 2


async def test_a_client_that_is_refused_most_often_is_in_the_sample_wherever_it_comes(
    make: Make, database: Database
) -> None:
    refusals = make()
    for number in range(200):
        refusals.add(by("flood", address=f"2001:db8::{number:x}"), status=401, route="/accounts")
    for _ in range(20_000):
        refusals.add(by("late", address="192.0.2.9"), status=401, route="/accounts")
    await refusals.stop()
    # The chance that it is missing is that of choosing five of the first 200 among all: one in ten billion.
    assert "192.0.2.9" in [address for _, _, address, _ in written(database)]


def total(database: Database) -> int:
    """The number of all refusals that were written."""
    return sum(details.get("others", 0) + details.get("times", 0) for *_, details in written(database))


async def test_refusals_are_written_periodically_and_then_counted_from_zero(make: Make, database: Database) -> None:
    refusals = make(seconds=0.005, again_seconds=0)
    for number in (1, 2):
        refusals.add(by("a"), status=401, route="/accounts")
        await until(lambda number=number: len(written(database)) == number)
    assert [details["times"] for *_, details in written(database)] == [1, 1]


async def test_a_kind_that_continues_is_written_once_and_then_gathered_for_longer(
    make: Make, database: Database
) -> None:
    refusals = make(seconds=0.005, again_seconds=0.5)
    refusals.add(by("first"), status=401, route="/accounts")
    await until(lambda: len(written(database)) == 1)
    for number in range(30):
        refusals.add(by(f"later {number}"), status=401, route="/accounts")
        await asyncio.sleep(0.005)
    refusals.add(by("another"), status=403, route="/accounts")
    await until(lambda: len(written(database)) == 2)
    await until(lambda: len(written(database)) == 3)  # although no further access is refused
    assert written(database) == [
        (None, "first", "192.0.2.7", said(401, "/accounts", 1)),
        (None, "another", "192.0.2.7", said(403, "/accounts", 1)),
        (None, "later 0", "192.0.2.7", said(401, "/accounts", 30)),
    ]


async def test_refusals_gathered_for_longer_are_written_at_a_stop(make: Make, database: Database) -> None:
    refusals = make(seconds=0.005)
    refusals.add(by("first"), status=401, route="/accounts")
    await until(lambda: len(written(database)) == 1)
    refusals.add(by("second"), status=401, route="/accounts")
    await asyncio.sleep(0.05)
    assert len(written(database)) == 1
    await refusals.stop()
    assert [(request, details["times"]) for _, request, _, details in written(database)] == [
        ("first", 1),
        ("second", 1),
    ]


async def test_clients_that_change_all_the_time_are_limited_as_well(make: Make, database: Database) -> None:
    refusals = make(seconds=0.005, again_seconds=0.5, samples=2)
    for number in range(20):
        refusals.add(by(f"of {number}", address=f"192.0.2.{number}"), status=401, route="/accounts")
        await asyncio.sleep(0.01)
    await until(lambda: total(database) == 20)
    assert len(written(database)) <= 3 + 3
    refusals.add(by("after", address="192.0.2.99"), status=401, route="/accounts")
    await until(lambda: written(database)[-1][2] == "192.0.2.99")


async def test_without_refusals_nothing_is_written(make: Make, writing: Database) -> None:
    commits: list[None] = []
    event.listen(writing.writer, "commit", lambda _connection: commits.append(None))
    await make().stop()
    assert commits == []


class TestThatCannotBeWritten:
    @pytest.fixture
    def kept(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Grows with each failed write, by the number of entries that are kept."""
        seen: list[int] = []
        monkeypatch.setattr(api.runtime.access_log.log, "warning", lambda _event, count, error: seen.append(count))
        return seen

    @staticmethod
    async def written_at_last(refusals: AccessLog, database: Database) -> list[tuple[Any, ...]]:
        """Flush until it works: on a busy machine the intake's short patience can run out again."""

        async def flushed() -> bool:
            await refusals.flush()
            return bool(written(database))

        await until(flushed)
        return written(database)

    async def test_are_kept_for_the_next_time(self, make: Make, database: Database, kept: list[int]) -> None:
        refusals = make(patience=0.02)
        with locked(database):
            refusals.add(by("first"), status=401, route="/accounts")
            await refusals.flush()
            assert kept == [1]
            refusals.add(by("second"), status=401, route="/accounts")
            refusals.add(by("third"), status=403, route="/accounts")
        assert await self.written_at_last(refusals, database) == [
            (None, "first", "192.0.2.7", said(401, "/accounts", 2)),
            (None, "third", "192.0.2.7", said(403, "/accounts", 1)),
        ]

    async def test_are_tried_again_even_without_new_refusals(
        self, make: Make, database: Database, kept: list[int]
    ) -> None:
        refusals = make(seconds=0.005, patience=0.02)
        with locked(database):
            refusals.add(by("first"), status=401, route="/accounts")
            await until(lambda: len(kept) >= 2)
        await until(lambda: bool(written(database)))
        assert written(database) == [(None, "first", "192.0.2.7", said(401, "/accounts", 1))]

    async def test_stay_within_the_limit_together_with_new_ones(
        self, make: Make, database: Database, kept: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(api.runtime.access_log, "randbelow", lambda most: most - 1)  # the first clients stay
        refusals = make(patience=0.02, samples=2)
        with locked(database):
            for round_ in (10, 20, 30):
                flushing = asyncio.create_task(refusals.flush())
                await asyncio.sleep(0)  # it has taken the refusals so far
                for number in range(3):
                    author = by("a", address=f"192.0.2.{round_ + number}")
                    refusals.add(author, status=401, route="/accounts")
                await flushing
        assert kept == [3, 3]  # the first time, nothing was kept
        found = await self.written_at_last(refusals, database)
        assert [(address, details) for *_, address, details in found] == [
            ("192.0.2.10", said(401, "/accounts", 1)),
            ("192.0.2.11", said(401, "/accounts", 1)),
            (None, {"status": 401, "route": "/accounts", "others": 7}),
        ]

    async def test_delay_a_stop_only_briefly_and_are_logged_as_lost(
        self, make: Make, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(api.runtime.access_log, "LAST_SECONDS", 0.01)
        lost: list[int] = []
        monkeypatch.setattr(api.runtime.access_log.log, "error", lambda _event, count: lost.append(count))
        refusals = make()
        with locked(database):
            refusals.add(by("first"), status=401, route="/accounts")
            refusals.add(by("second"), status=403, route="/accounts")
            async with asyncio.timeout(5):  # the intake would wait twice as long
                await refusals.stop()
        assert (lost, written(database)) == ([2], [])
