"""The intake: what waits is written together, and each request is told what became of it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Connection, event

import api.runtime.intake
from api.runtime.intake import Intake
from core.domain.errors import CommonError, ErrorCode, OutcomeUnknown, Refusal, Unavailable
from core.domain.transfers import AcceptedTransfer, TransferError
from core.domain.users import UserError
from core.storage.sqlite.engine import Database
from tests import builders
from tests.api.conftest import locked, until

pytestmark = pytest.mark.funded(ada_has=10_000)

Make = Callable[..., Intake]
Outcomes = list[Any]


@pytest.fixture
def woken() -> list[None]:
    """Grows by one whenever the intake says that something was accepted."""
    return []


@pytest.fixture
async def make(writing: Database, woken: list[None]) -> AsyncIterator[Make]:
    """Make an intake with some bounds; it is stopped after the test."""
    made: list[Intake] = []

    def intake(**bounds: Any) -> Intake:
        chosen = {"waiting": 100, "group": 100, "seconds": 10.0, "most_pending": 1000} | bounds
        made.append(Intake(writing, **chosen, on_accepted=lambda: woken.append(None)))
        return made[-1]

    yield intake
    for one in made:
        await one.stop()


@pytest.fixture
def commits(writing: Database) -> list[None]:
    """Grows by one with each commit of the writer."""
    seen: list[None] = []
    event.listen(writing.writer, "commit", lambda _connection: seen.append(None))
    return seen


async def piled_up(database: Database, *calls: Any) -> Outcomes:
    """Let calls pile up behind a lock that somebody else holds, and return what each came to (or raised)."""
    with locked(database):
        tasks = [asyncio.ensure_future(call) for call in calls]
        await asyncio.sleep(0)  # each task has run up to where it waits: all stand in the intake
    return list(await asyncio.gather(*tasks, return_exceptions=True))


def pending(database: Database) -> int:
    return len(builders.rows(database, "SELECT id FROM transfers WHERE status = 'pending'"))


def mark(text: str) -> Callable[[Connection], str]:
    """A piece of work that leaves a mark: a user's name."""

    def work(connection: Connection) -> str:
        builders.add_user(connection, f"{text}@example.com")
        return text

    return work


def marks(database: Database) -> list[str]:
    query = "SELECT email FROM users WHERE email LIKE '%mark%' ORDER BY id"
    return [row["email"].partition("@")[0] for row in builders.rows(database, query)]


class TestAGroup:
    async def test_is_what_waited_and_shares_one_commit(
        self, make: Make, commits: list[None], database: Database, bank: builders.Bank
    ) -> None:
        intake = make()
        orders = [builders.from_ada_to_bob(bank, 100) for _ in range(20)]
        outcomes = await piled_up(database, *(intake.accept(order) for order in orders), intake.run(mark("mark")))
        assert all(isinstance(outcome, AcceptedTransfer) for outcome in outcomes[:-1])
        assert outcomes[-1] == "mark"
        assert len(commits) == 1
        assert [outcome.sequence for outcome in outcomes[:-1]] == list(
            range(outcomes[0].sequence, outcomes[0].sequence + 20)
        )
        assert pending(database) == 20

    async def test_that_breaks_before_it_is_taken_up_is_answered(
        self, make: Make, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        @contextmanager
        def without_memory(_database: Database) -> Iterator[Connection]:
            raise MemoryError
            yield

        intake = make(seconds=60)
        with monkeypatch.context() as patched:
            patched.setattr(api.runtime.intake, "unit_of_work", without_memory)
            with pytest.raises(MemoryError):
                await asyncio.wait_for(intake.run(mark("mark-lost")), 20)
        assert await intake.run(mark("mark")) == "mark"
        assert marks(database) == ["mark"]

    async def test_holds_as_many_as_it_may(self, make: Make, commits: list[None], database: Database) -> None:
        intake = make(group=2)
        await piled_up(database, *(intake.run(mark(f"mark-{number}")) for number in range(5)))
        assert len(commits) == 3
        assert marks(database) == [f"mark-{number}" for number in range(5)]

    async def test_of_one_waits_for_nobody(
        self, make: Make, commits: list[None], database: Database, bank: builders.Bank
    ) -> None:
        intake = make()
        accepted = await intake.accept(builders.from_ada_to_bob(bank))
        assert builders.status_of(database, accepted) == "pending"
        assert len(commits) == 1

    async def test_sees_what_those_before_in_it_reserved(
        self, make: Make, database: Database, bank: builders.Bank
    ) -> None:
        intake = make()
        orders = [builders.from_ada_to_bob(bank, amount) for amount in (6_000, 5_000, 4_000, 1)]
        outcomes = await piled_up(database, *(intake.accept(order) for order in orders))
        assert [getattr(outcome, "code", None) for outcome in outcomes] == [
            None,
            TransferError.INSUFFICIENT_FUNDS,
            None,
            TransferError.INSUFFICIENT_FUNDS,
        ]
        assert builders.reserved_of(database, bank.ada_account) == 10_000

    async def test_says_once_that_it_accepted_something(
        self, make: Make, woken: list[None], database: Database, bank: builders.Bank
    ) -> None:
        intake = make()
        orders = [builders.from_ada_to_bob(bank, 100, idempotency_key="k") for _ in range(3)]
        await piled_up(database, *(intake.accept(order) for order in orders))
        assert len(woken) == 1

    async def test_that_accepted_nothing_new_says_nothing(
        self, make: Make, woken: list[None], database: Database, bank: builders.Bank
    ) -> None:
        intake = make()
        order = builders.from_ada_to_bob(bank, 100, idempotency_key="k")
        await intake.accept(order)
        woken.clear()
        too_much = builders.from_ada_to_bob(bank, 10**6)
        outcomes = await piled_up(database, intake.accept(order), intake.accept(too_much), intake.run(mark("mark")))
        assert outcomes[0].replayed
        assert woken == []


class TestTooMuch:
    async def test_is_refused_before_anything_is_accepted(self, make: Make, database: Database) -> None:
        intake = make(waiting=3)
        outcomes = await piled_up(database, *(intake.run(mark(f"mark-{number}")) for number in range(5)))
        assert [type(outcome) for outcome in outcomes] == [str, str, str, Unavailable, Unavailable]
        assert marks(database) == ["mark-0", "mark-1", "mark-2"]

    async def test_is_over_once_there_is_room_again(self, make: Make, database: Database) -> None:
        intake = make(waiting=1)
        await piled_up(database, intake.run(mark("mark-0")), intake.run(mark("mark-1")))
        assert await intake.run(mark("mark-2")) == "mark-2"


class TestARequestWhoseTimeRunsOut:
    async def test_is_refused_and_nothing_of_it_is_recorded(
        self, make: Make, database: Database, bank: builders.Bank
    ) -> None:
        intake = make(seconds=0.3)
        with locked(database):
            calls = (intake.accept(builders.from_ada_to_bob(bank)), intake.run(mark("mark-late")))
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]
        await intake.run(mark("mark"))
        assert marks(database) == ["mark"]
        assert pending(database) == 0
        assert builders.reserved_of(database, bank.ada_account) == 0

    async def test_is_not_one_that_has_been_taken_up(self, make: Make, database: Database) -> None:
        intake, loop = make(seconds=0.3), asyncio.get_running_loop()
        started, later = asyncio.Event(), threading.Event()

        def slow(connection: Connection) -> str:
            loop.call_soon_threadsafe(started.set)
            assert later.wait(10)
            return mark("mark-slow")(connection)

        call = asyncio.ensure_future(intake.run(slow))
        await started.wait()
        done, _ = await asyncio.wait([call], timeout=0.6)  # twice what it may wait to be taken up
        assert not done
        later.set()
        assert await call == "mark-slow"
        assert marks(database) == ["mark-slow"]

    async def test_leaves_those_that_still_have_time(self, make: Make, database: Database) -> None:
        intake = make(seconds=0.8)
        with locked(database):
            early = asyncio.ensure_future(intake.run(mark("mark-early")))
            await asyncio.wait([early], timeout=0.4)
            late = asyncio.ensure_future(intake.run(mark("mark-late")))
            with pytest.raises(Unavailable):
                await early
        assert await late == "mark-late"
        assert marks(database) == ["mark-late"]


class TestARequestThatNobodyWaitsForAnyMore:
    async def test_is_not_written_and_takes_up_no_room(self, make: Make, database: Database) -> None:
        intake = make(waiting=1)
        with locked(database):
            given_up = asyncio.ensure_future(intake.run(mark("mark-given-up")))
            await asyncio.sleep(0)
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
            following = asyncio.ensure_future(intake.run(mark("mark")))
            await asyncio.sleep(0)
        assert await following == "mark"
        assert marks(database) == ["mark"]


class TestARequestThatGoesWrong:
    async def test_spoils_only_itself(self, make: Make, database: Database, bank: builders.Bank) -> None:
        def breaks(connection: Connection) -> None:
            mark("mark-broken")(connection)
            raise KeyError("by a bug")

        def violates(connection: Connection) -> None:
            connection.exec_driver_sql("UPDATE accounts SET reserved = -1")

        intake = make()
        calls = [
            intake.accept(builders.from_ada_to_bob(bank, 100)),
            intake.run(mark("mark-0")),
            intake.run(breaks),
            intake.run(violates),
            intake.run(mark("mark-1")),
            intake.accept(builders.from_ada_to_bob(bank, 200)),
        ]
        outcomes = await piled_up(database, *calls)
        kinds = [type(outcome).__name__ for outcome in outcomes]
        assert kinds == ["AcceptedTransfer", "str", "KeyError", "IntegrityError", "str", "AcceptedTransfer"]
        assert marks(database) == ["mark-0", "mark-1"]
        assert pending(database) == 2
        assert builders.reserved_of(database, bank.ada_account) == 300

    async def test_by_a_refusal_takes_back_what_it_wrote_and_keeps_the_commit_of_the_others(
        self, make: Make, commits: list[None], database: Database
    ) -> None:
        def refuses(connection: Connection) -> None:
            mark("mark-refused")(connection)
            raise Refusal(UserError.EMAIL_TAKEN)

        intake = make()
        calls = (intake.run(mark("mark-0")), intake.run(refuses), intake.run(mark("mark-1")))
        outcomes = await piled_up(database, *calls)
        assert [type(outcome) for outcome in outcomes] == [str, Refusal, str]
        assert marks(database) == ["mark-0", "mark-1"]
        assert len(commits) == 1

    async def test_leaves_the_writer_alive(self, make: Make, database: Database) -> None:
        def breaks(_connection: Connection) -> None:
            raise MemoryError

        intake = make()
        for _ in range(3):
            with pytest.raises(MemoryError):
                await intake.run(breaks)
        assert await intake.run(mark("mark")) == "mark"


def fails_at_commit(connection: Connection) -> None:
    """Work that COMMIT itself must refuse: a reference to nobody, checked no earlier than then."""
    connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
    connection.exec_driver_sql(
        "INSERT INTO refresh_tokens (user_id, family, digest, token_version, created_at, expires_at) "
        "VALUES (999999, x'00', x'00', 0, 0, 0)"
    )


def break_the_fence(connection: Connection) -> None:
    """Have the commit fail that is to follow on a failed one."""
    connection.exec_driver_sql(
        "CREATE TRIGGER no_fence BEFORE UPDATE ON fences BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END"
    )


class TestACommitThatFails:
    async def test_with_a_fence_that_holds_is_answered_unavailable(
        self, make: Make, database: Database, bank: builders.Bank
    ) -> None:
        before = builders.rows(database, "SELECT passed FROM fences")[0]["passed"]
        intake = make()
        calls = (intake.accept(builders.from_ada_to_bob(bank)), intake.run(fails_at_commit), intake.run(mark("mark")))
        outcomes = await piled_up(database, *calls)
        assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3
        assert pending(database) == 0
        assert marks(database) == []
        assert builders.rows(database, "SELECT passed FROM fences")[0]["passed"] == before + 1
        assert await intake.run(mark("mark")) == "mark"

    async def test_with_a_fence_that_fails_too_has_an_unknown_outcome(
        self, make: Make, database: Database, bank: builders.Bank
    ) -> None:
        intake = make()
        await intake.run(break_the_fence)
        calls = (intake.accept(builders.from_ada_to_bob(bank)), intake.run(fails_at_commit))
        outcomes = await piled_up(database, *calls)
        assert [type(outcome) for outcome in outcomes] == [OutcomeUnknown] * 2
        assert {outcome.code for outcome in outcomes} == {CommonError.OUTCOME_UNKNOWN}
        assert await intake.run(mark("mark")) == "mark"
        assert pending(database) == 0


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"giro_{name}", labels) or 0.0


def refusals() -> dict[str, float]:
    """Transfers refused so far, by code."""
    return {code: counted("transfers_refused_total", code=code) for code in ErrorCode.all()}


def more_than(before: dict[str, float]) -> dict[str, float]:
    return {code: count - before[code] for code, count in refusals().items() if count != before[code]}


class TestWhatIsCounted:
    async def test_are_transfers_and_no_other_writes(self, make: Make, database: Database, bank: builders.Bank) -> None:
        intake, latency, refused = make(), counted("accept_latency_seconds_count"), refusals()

        def refuses(_connection: Connection) -> None:
            raise Refusal(UserError.EMAIL_TAKEN)

        orders = [builders.from_ada_to_bob(bank, amount) for amount in (100, 10**6, 10**6)]
        await piled_up(
            database, *(intake.accept(order) for order in orders), intake.run(mark("mark")), intake.run(refuses)
        )
        assert more_than(refused) == {"insufficient_funds": 2}
        assert counted("accept_latency_seconds_count") == latency + 3

    async def test_a_transfer_for_which_there_is_no_room_is_unavailable_and_not_quick(
        self, make: Make, database: Database, bank: builders.Bank
    ) -> None:
        intake, latency, refused = make(waiting=1), counted("accept_latency_seconds_count"), refusals()
        calls = [intake.run(mark("mark-0")), intake.accept(builders.from_ada_to_bob(bank)), intake.run(mark("mark-1"))]
        await piled_up(database, *calls)
        assert more_than(refused) == {"unavailable": 1}
        assert counted("accept_latency_seconds_count") == latency

    async def test_a_transfer_whose_time_runs_out_is_unavailable_after_that_time(
        self, make: Make, database: Database, bank: builders.Bank
    ) -> None:
        intake, refused = make(seconds=0.3), refusals()
        waited, count = counted("accept_latency_seconds_sum"), counted("accept_latency_seconds_count")
        with locked(database):
            calls = (intake.accept(builders.from_ada_to_bob(bank)), intake.run(mark("mark-late")))
            await asyncio.gather(*calls, return_exceptions=True)
        assert more_than(refused) == {"unavailable": 1}
        assert counted("accept_latency_seconds_count") == count + 1
        assert counted("accept_latency_seconds_sum") - waited >= 0.29

    async def test_a_transfer_that_nobody_waits_for_any_more_has_no_answer(
        self, make: Make, database: Database, bank: builders.Bank
    ) -> None:
        intake, latency, refused = make(), counted("accept_latency_seconds_count"), refusals()
        with locked(database):
            given_up = asyncio.ensure_future(intake.accept(builders.from_ada_to_bob(bank)))
            await asyncio.sleep(0)
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
        assert more_than(refused) == {}
        assert counted("accept_latency_seconds_count") == latency

    @pytest.mark.parametrize("fence_holds", [True, False])
    async def test_a_commit_that_fails_is_what_the_clients_are_told(
        self, make: Make, database: Database, bank: builders.Bank, fence_holds: bool
    ) -> None:
        intake = make()
        if not fence_holds:
            await intake.run(break_the_fence)
        refused = refusals()
        calls = [intake.accept(builders.from_ada_to_bob(bank)) for _ in range(2)]
        await piled_up(database, *calls, intake.run(fails_at_commit))
        assert more_than(refused) == {"unavailable" if fence_holds else "outcome_unknown": 2}

    async def test_a_transfer_that_goes_wrong_by_a_bug_is_an_internal_error(
        self, make: Make, database: Database, bank: builders.Bank
    ) -> None:
        intake, refused = make(), refusals()
        broken = builders.from_ada_to_bob(bank, description=object())
        outcomes = await piled_up(database, intake.accept(broken), intake.accept(builders.from_ada_to_bob(bank)))
        assert [isinstance(outcome, AcceptedTransfer) for outcome in outcomes] == [False, True]
        assert more_than(refused) == {"internal_error": 1}

    async def test_what_waits_is_shown_while_it_does(self, make: Make, database: Database) -> None:
        patient, hasty = make(seconds=30), make(seconds=0.05)
        with locked(database):
            calls = [asyncio.ensure_future(patient.run(mark(f"mark-{number}"))) for number in range(3)]
            await asyncio.sleep(0)
            assert counted("intake_waiting") == 3
            calls[0].cancel()
            await asyncio.wait(calls[:1])
            assert counted("intake_waiting") == 2
        await asyncio.wait(calls)
        assert counted("intake_waiting") == 0, "they are written"
        with locked(database):
            await asyncio.wait([asyncio.ensure_future(hasty.run(mark("mark")))])
            assert counted("intake_waiting") == 0, "its time has run out"


class TestStopping:
    async def test_writes_what_waits_and_takes_nothing_more(
        self, make: Make, database: Database, bank: builders.Bank
    ) -> None:
        intake = make()
        with locked(database):
            waiting = asyncio.ensure_future(intake.accept(builders.from_ada_to_bob(bank)))
            await asyncio.sleep(0)
            stopping = asyncio.ensure_future(intake.stop())
            await asyncio.sleep(0)
            with pytest.raises(Unavailable):
                await intake.run(mark("mark"))
        assert builders.status_of(database, await waiting) == "pending"
        await stopping
        assert not intake._thread.is_alive()

    async def test_does_not_wait_forever_for_a_lock(self, make: Make, database: Database) -> None:
        intake = make(seconds=0.05)
        with locked(database):
            call = asyncio.ensure_future(intake.run(mark("mark")))
            await asyncio.sleep(0)
            async with asyncio.timeout(5):
                await intake.stop()
            with pytest.raises(Unavailable):
                await call
        await until(lambda: not intake._thread.is_alive())
        assert marks(database) == []
