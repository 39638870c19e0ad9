"""The intake: waiting requests are written together, and each gets its own result."""

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
from core.domain.errors import CommonError, OutcomeUnknown, Refusal, Unavailable
from core.domain.lanes import Lane
from core.domain.transfers import AcceptedTransfer, TransferError
from core.domain.users import UserError
from core.settings import Settings
from core.storage.sqlite.engine import Database
from tests import builders
from tests.api.conftest import locked, until
from tests.api.runtime.marks import mark, marks
from tests.engines import LanesApart

pytestmark = pytest.mark.funded(ada_has=10_000)

Make = Callable[..., Intake]
Outcomes = list[Any]


@pytest.fixture
def woken() -> list[None]:
    """Grows by one whenever the intake signals an accepted transfer."""
    return []


@pytest.fixture
async def make(writing: Database, woken: list[None]) -> AsyncIterator[Make]:
    """Make an intake with the given limits; it is stopped after the test."""
    made: list[Intake] = []

    def intake(**bounds: Any) -> Intake:
        chosen = {"waiting": 100, "group": 100, "seconds": 10.0, "bounds": builders.BOUNDS} | bounds
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
    """Let calls pile up behind a lock, and return the result or the exception of each."""
    with locked(database):
        tasks = [asyncio.ensure_future(call) for call in calls]
        await asyncio.sleep(0)  # each task has run up to its wait: all are in the intake
    return list(await asyncio.gather(*tasks, return_exceptions=True))


def pending(database: Database) -> int:
    return len(builders.rows(database, f"SELECT id FROM {builders.WHOLE_TRANSFERS} WHERE status = 'pending'"))


class TestAGroup:
    async def test_contains_the_waiting_requests_and_has_one_commit(
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

    async def test_that_fails_before_it_starts_is_answered(
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

    async def test_has_a_maximum_size(self, make: Make, commits: list[None], database: Database) -> None:
        intake = make(group=2)
        await piled_up(database, *(intake.run(mark(f"mark-{number}")) for number in range(5)))
        assert len(commits) == 3
        assert marks(database) == [f"mark-{number}" for number in range(5)]

    async def test_of_one_does_not_wait(
        self, make: Make, commits: list[None], database: Database, bank: builders.Bank
    ) -> None:
        intake = make()
        accepted = await intake.accept(builders.from_ada_to_bob(bank))
        assert builders.status_of(database, accepted) == "pending"
        assert len(commits) == 1

    async def test_sees_the_reservations_of_earlier_requests_in_it(
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

    async def test_signals_once_that_it_accepted_transfers(
        self, make: Make, woken: list[None], database: Database, bank: builders.Bank
    ) -> None:
        intake = make()
        orders = [builders.from_ada_to_bob(bank, 100, idempotency_key="k") for _ in range(3)]
        await piled_up(database, *(intake.accept(order) for order in orders))
        assert len(woken) == 1

    async def test_without_a_new_transfer_signals_nothing(
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
    async def test_is_rejected_before_anything_is_accepted(self, make: Make, database: Database) -> None:
        intake = make(waiting=3)
        outcomes = await piled_up(database, *(intake.run(mark(f"mark-{number}")) for number in range(5)))
        assert [type(outcome) for outcome in outcomes] == [str, str, str, Unavailable, Unavailable]
        assert marks(database) == ["mark-0", "mark-1", "mark-2"]

    async def test_ends_once_there_is_room_again(self, make: Make, database: Database) -> None:
        intake = make(waiting=1)
        await piled_up(database, intake.run(mark("mark-0")), intake.run(mark("mark-1")))
        assert await intake.run(mark("mark-2")) == "mark-2"


class TestARequestWhoseTimeRunsOut:
    async def test_is_rejected_and_records_nothing(self, make: Make, database: Database, bank: builders.Bank) -> None:
        intake = make(seconds=0.3)
        with locked(database):
            calls = (intake.accept(builders.from_ada_to_bob(bank)), intake.run(mark("mark-late")))
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]
        await intake.run(mark("mark"))
        assert marks(database) == ["mark"]
        assert pending(database) == 0
        assert builders.reserved_of(database, bank.ada_account) == 0

    async def test_is_not_rejected_once_its_work_has_started(self, make: Make, database: Database) -> None:
        intake, loop = make(seconds=0.3), asyncio.get_running_loop()
        started, later = asyncio.Event(), threading.Event()

        def slow(connection: Connection) -> str:
            loop.call_soon_threadsafe(started.set)
            assert later.wait(10)
            return mark("mark-slow")(connection)

        call = asyncio.ensure_future(intake.run(slow))
        await started.wait()
        done, _ = await asyncio.wait([call], timeout=0.6)  # twice the maximum wait before it starts
        assert not done
        later.set()
        assert await call == "mark-slow"
        assert marks(database) == ["mark-slow"]

    async def test_does_not_affect_requests_with_time_left(self, make: Make, database: Database) -> None:
        intake = make(seconds=0.8)
        with locked(database):
            early = asyncio.ensure_future(intake.run(mark("mark-early")))
            await asyncio.wait([early], timeout=0.4)
            late = asyncio.ensure_future(intake.run(mark("mark-late")))
            with pytest.raises(Unavailable):
                await early
        assert await late == "mark-late"
        assert marks(database) == ["mark-late"]


class TestOnAnEngineWithTwoLanes:
    @pytest.fixture
    def writing(self, settings: Settings, database: Database) -> Iterator[Database]:
        own = LanesApart(settings)
        LanesApart.asked = []
        yield own
        own.close()

    async def test_a_group_takes_the_lanes_that_its_requests_need(
        self, make: Make, database: Database, bank: builders.Bank
    ) -> None:
        intake = make()
        assert await intake.run(mark("mark-0")) == "mark-0"
        await intake.accept(builders.from_ada_to_bob(bank))
        await piled_up(database, intake.run(mark("mark-1"), Lane.SETTLE), intake.accept(builders.from_ada_to_bob(bank)))
        assert LanesApart.asked == [set(), {Lane.ACCEPT}, {Lane.ACCEPT, Lane.SETTLE}]

    async def test_a_request_that_comes_later_and_needs_another_lane_is_in_the_next_group(
        self, make: Make, commits: list[None], database: Database, bank: builders.Bank
    ) -> None:
        intake = make()
        with locked(database):
            calls = [asyncio.ensure_future(intake.run(mark("mark-early"), Lane.SETTLE))]
            await until(lambda: bool(LanesApart.asked))
            later = (
                intake.run(mark("mark-same"), Lane.SETTLE),
                intake.accept(builders.from_ada_to_bob(bank)),
                intake.run(mark("mark-last")),
            )
            calls += [asyncio.ensure_future(call) for call in later]
            await asyncio.sleep(0)
        await asyncio.gather(*calls)
        assert LanesApart.asked == [{Lane.SETTLE}, {Lane.ACCEPT}]
        assert len(commits) == 2
        assert marks(database) == ["mark-early", "mark-same", "mark-last"]
        assert pending(database) == 1

    async def test_a_request_that_is_written_alone_takes_its_own_lanes(
        self, make: Make, database: Database, bank: builders.Bank
    ) -> None:
        def breaks(_connection: Connection) -> None:
            raise ZeroDivisionError

        intake = make()
        calls = (intake.accept(builders.from_ada_to_bob(bank)), intake.run(breaks, Lane.SETTLE))
        _, broken = await piled_up(database, *calls)
        assert isinstance(broken, ZeroDivisionError)
        assert LanesApart.asked == [{Lane.ACCEPT, Lane.SETTLE}, {Lane.ACCEPT}, {Lane.SETTLE}]


class TestARequestThatIsAbandoned:
    async def test_is_not_written_and_takes_no_place(self, make: Make, database: Database) -> None:
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


class TestARequestThatFails:
    async def test_affects_only_itself(self, make: Make, database: Database, bank: builders.Bank) -> None:
        def breaks(connection: Connection) -> None:
            mark("mark-broken")(connection)
            raise KeyError("by a bug")

        def violates(connection: Connection) -> None:
            connection.exec_driver_sql("UPDATE accounts SET overdraft_limit = -1")

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

    async def test_by_a_refusal_undoes_its_own_writes_and_keeps_the_commit_of_the_others(
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
    """Work whose COMMIT fails: it inserts a reference to a missing row, which is checked at the commit."""
    connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
    connection.exec_driver_sql(
        "INSERT INTO refresh_tokens (user_id, family, digest, token_version, created_at, expires_at) "
        "VALUES (999999, x'00', x'00', 0, 0, 0)"
    )


def break_the_fence(connection: Connection) -> None:
    """Make the commit of the fence fail, too."""
    connection.exec_driver_sql(
        "CREATE TRIGGER no_fence BEFORE UPDATE ON fences BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END"
    )


class TestACommitThatFails:
    async def test_is_answered_unavailable_if_the_fence_succeeds(
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

    async def test_has_an_unknown_outcome_if_the_fence_fails_too(
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
    """Transfers refused so far, by code. The registry is read once, because each reading takes some milliseconds."""
    read = (sample for family in REGISTRY.collect() for sample in family.samples)
    return {it.labels["code"]: it.value for it in read if it.name == "giro_transfers_refused_total"}


def more_than(before: dict[str, float]) -> dict[str, float]:
    return {code: more for code, count in refusals().items() if (more := count - before.get(code, 0.0))}


class TestWhatIsCounted:
    async def test_are_transfers_but_no_other_writes(self, make: Make, database: Database, bank: builders.Bank) -> None:
        intake, latency, refused = make(), counted("accept_latency_seconds_count"), refusals()

        def refuses(_connection: Connection) -> None:
            raise Refusal(UserError.EMAIL_TAKEN)

        orders = [builders.from_ada_to_bob(bank, amount) for amount in (100, 10**6, 10**6)]
        await piled_up(
            database, *(intake.accept(order) for order in orders), intake.run(mark("mark")), intake.run(refuses)
        )
        assert more_than(refused) == {"insufficient_funds": 2}
        assert counted("accept_latency_seconds_count") == latency + 3

    async def test_a_transfer_without_room_is_unavailable_and_takes_no_time(
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

    async def test_an_abandoned_transfer_has_no_answer(
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
    async def test_a_failed_commit_counts_as_the_answer_that_clients_get(
        self, make: Make, database: Database, bank: builders.Bank, fence_holds: bool
    ) -> None:
        intake = make()
        if not fence_holds:
            await intake.run(break_the_fence)
        refused = refusals()
        calls = [intake.accept(builders.from_ada_to_bob(bank)) for _ in range(2)]
        await piled_up(database, *calls, intake.run(fails_at_commit))
        assert more_than(refused) == {"unavailable" if fence_holds else "outcome_unknown": 2}

    async def test_a_transfer_that_fails_by_a_bug_is_an_internal_error(
        self, make: Make, database: Database, bank: builders.Bank
    ) -> None:
        intake, refused = make(), refusals()
        broken = builders.from_ada_to_bob(bank, description=object())
        outcomes = await piled_up(database, intake.accept(broken), intake.accept(builders.from_ada_to_bob(bank)))
        assert [isinstance(outcome, AcceptedTransfer) for outcome in outcomes] == [False, True]
        assert more_than(refused) == {"internal_error": 1}

    async def test_waiting_requests_are_counted_while_they_wait(self, make: Make, database: Database) -> None:
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
    async def test_writes_the_waiting_requests_and_accepts_no_more(
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
