"""The state of the service, for people, load balancers and supervisors."""

import asyncio
import json
import os
import socket
import threading
from typing import Any
from unittest.mock import ANY
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import httpx2
import pytest
import structlog

import core.services.clocks
from api.runtime.health import HealthState
from api.runtime.health_checks import CHECKS, Check
from api.schemas.health import Health
from core.clock import now_us, to_datetime
from core.processes import heartbeats
from core.processes.lifeline import Heartbeat
from core.services import clocks
from core.services.verification import Report, keep
from core.settings import Settings
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.api.conftest import Api, Pair, Person, Start, locked, payment, until
from tests.api.contract import Json
from tests.builders import accepted, bank_of_two, from_ada_to_bob, move_on
from tests.time_travel import Clock

pytestmark = pytest.mark.checks_at_start

NEEDED = {"database", "migrations", "disk"}
WANTED = {"queue", "sqlite", "ledger", "settling", "clock", "settlement", "jobs", "scheduler"}


def statuses(body: Json) -> dict[str, str]:
    return {name: check["status"] for name, check in body["checks"].items()}


@pytest.fixture
def workers(settings: Settings) -> Any:
    """Heartbeats of the other processes, as if they were running."""
    beats = [Heartbeat(settings, name) for name in ("settlement", "jobs", "scheduler")]
    for beat in beats:
        beat.start()
    yield beats
    for beat in beats:
        beat.stop()


async def ask(api: Api, path: str, who: Person | None = None) -> httpx2.Response:
    """Ask for the state as it is now, and not as it was up to a second ago."""
    await api.health()
    return await (who.get(path) if who else api.client.get(path))


async def test_a_process_that_answers_is_live(api: Api) -> None:
    answer = await api.client.get("/health/live")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "checks": {}})


async def test_with_all_its_parts_the_service_is_ok(api: Api, operator: Person, workers: Any) -> None:
    answer = await ask(api, "/health", operator)
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
    assert statuses(answer.json()) == dict.fromkeys(NEEDED | WANTED, "ok")
    for check in answer.json()["checks"].values():
        assert check["latency_ms"] >= 0
    assert answer.json()["checks"]["disk"]["free_bytes"] > 0
    assert answer.headers["cache-control"] == "no-store"


def test_ready_needs_only_the_parts_that_accepting_needs() -> None:
    assert {name for name, check in CHECKS.items() if check.worst is Health.UNAVAILABLE} == NEEDED
    assert CHECKS.keys() == NEEDED | WANTED


class TestTheDetails:
    @pytest.mark.parametrize("path", ["/health", "/health/ready", "/health/live"])
    async def test_are_hidden_from_strangers_and_customers(self, api: Api, ada: Person, path: str) -> None:
        for answer in (await api.client.get(path), await ada.get(path)):
            assert answer.status_code == 200
            assert answer.json().keys() == {"status", "checks"}
            assert answer.json()["checks"] == {}

    @pytest.mark.parametrize("authorization", ["Bearer nonsense", "Bearer ", "Basic abc", "nonsense"])
    async def test_are_hidden_without_a_refusal_if_the_token_is_invalid(self, api: Api, authorization: str) -> None:
        """The health of the service does not depend on the token of its monitoring."""
        answer = await api.client.get("/health", headers={"Authorization": authorization})
        assert (answer.status_code, answer.json()["checks"]) == (200, {})

    async def test_are_hidden_from_a_deactivated_operator(self, api: Api, database: Database, operator: Person) -> None:
        assert (await operator.get("/health")).json()["checks"] != {}
        with unit_of_work(database) as connection:
            connection.exec_driver_sql("UPDATE users SET is_active = 0 WHERE role = 'operator'")
        answer = await operator.get("/health")
        assert (answer.status_code, answer.json()["checks"]) == (200, {})

    async def test_are_on_the_metrics_port_without_a_token(self, start: Start, workers: Any) -> None:
        port = free_port()
        async with start(metrics_port_api=port, disk_free_mb=0) as api:
            body = json.loads(await asyncio.to_thread(read, f"http://127.0.0.1:{port}/health"))
            assert statuses(body) == dict.fromkeys(NEEDED | WANTED, "ok")
            assert b"giro_build_info" in await asyncio.to_thread(read, f"http://127.0.0.1:{port}/metrics")
            api.runtime.database.path.unlink()
            await api.health()
            with pytest.raises(HTTPError, match="503") as found:
                await asyncio.to_thread(read, f"http://127.0.0.1:{port}/health")
            assert statuses(json.loads(found.value.read()))["migrations"] == "unavailable"


class TestTheState:
    async def test_is_right_when_the_first_request_comes(self, start: Start, workers: Any) -> None:
        async with start(disk_free_mb=10**9) as api:
            assert (await api.client.get("/health/ready")).status_code == 503
        async with start() as api:
            assert (await api.client.get("/health")).json()["status"] == "ok"

    async def test_costs_a_call_no_check(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        looked: list[str] = []
        for name in CHECKS:
            monkeypatch.setitem(
                CHECKS, name, Check(lambda _, name=name: (looked.append(name), (Health.OK, {}))[1], Health.DEGRADED)
            )
        for path in ("/health", "/health/ready", "/health/live") * 5:
            await api.client.get(path)
        assert looked == []
        await api.health()
        assert sorted(looked) == sorted(CHECKS)

    async def test_is_refreshed_by_itself(self, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("api.runtime.health.REFRESH_SECONDS", 0.01)
        async with start() as api:
            assert (await api.client.get("/health/ready")).status_code == 200
            api.runtime.database.path.unlink()

            async def is_unavailable() -> bool:
                return (await api.client.get("/health/ready")).status_code == 503

            await until(is_unavailable)

    async def test_is_unavailable_once_it_is_stale(
        self, api: Api, operator: Person, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """If the refresh hangs, nobody knows how the service is."""
        api.app.state.health._task.cancel()
        monkeypatch.setattr("api.runtime.health.STALE_SECONDS", -1)
        for path in ("/health", "/health/ready"):
            answer = await api.client.get(path)
            assert (answer.status_code, answer.json()) == (503, {"status": "unavailable", "checks": {}})
        assert (await api.client.get("/health/live")).status_code == 200
        found = (await operator.get("/health")).json()["checks"]
        assert found.keys() == NEEDED | WANTED | {"refresh"}
        assert found["refresh"]["age_seconds"] >= 0

    async def test_of_a_process_that_has_not_started_is_unavailable(self) -> None:
        state = HealthState()
        assert (state.ready(), state.overall()) == (Health.UNAVAILABLE, Health.UNAVAILABLE)
        assert state.details().checks.keys() == {"refresh"}

    async def test_is_logged_once_when_a_part_fails(
        self, api: Api, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with structlog.testing.capture_logs() as lines:
            monkeypatch.setattr("api.runtime.health.log", structlog.get_logger())
            database.path.unlink()
            for _ in range(3):
                await api.health()
        assert [line["check"] for line in lines if line["event"] == "check_failed"].count("migrations") == 1


class TestDegraded:
    async def test_is_a_service_without_workers(self, api: Api, operator: Person) -> None:
        answer = await ask(api, "/health", operator)
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        found = statuses(answer.json())
        assert {name for name, status in found.items() if status == "degraded"} == {"settlement", "jobs", "scheduler"}
        assert answer.json()["checks"]["jobs"]["heartbeat_age_seconds"] is None
        assert (await api.client.get("/health")).json() == {"status": "degraded", "checks": {}}

    async def test_is_a_service_with_a_silent_worker(self, api: Api, settings: Settings, workers: Any) -> None:
        workers[0]._stopped.set()
        for thread, folder in zip(workers[0]._threads, workers[0]._folders, strict=True):
            thread.join()
            os.utime(heartbeats.path_of(folder, "settlement"), (1_000_000_000, 1_000_000_000))
        found = await api.health()
        assert found["checks"]["settlement"]["status"] == "degraded"
        assert found["checks"]["settlement"]["heartbeat_age_seconds"] > settings.silent_seconds

    async def test_is_a_service_without_its_queue(self, api: Api, workers: Any) -> None:
        api.queue.connected = False
        found = await api.health()
        assert statuses(found) == dict.fromkeys(NEEDED | WANTED, "ok") | {"queue": "degraded"}
        assert (await api.client.get("/health")).status_code == 200
        assert (await api.client.get("/health/ready")).json()["status"] == "ok"

    async def test_is_a_service_with_a_hanging_queue_while_nothing_else_waits(
        self, api: Api, workers: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pings, may_end = [], threading.Event()

        def ping() -> None:
            pings.append(1)
            may_end.wait(30)

        monkeypatch.setattr(api.runtime.waker, "probe", ping)
        monkeypatch.setattr("api.runtime.health.CHECK_SECONDS", 0.2)
        try:
            for _ in range(3):
                found = await api.health()
                assert statuses(found) == dict.fromkeys(NEEDED | WANTED, "ok") | {"queue": "degraded"}
            assert (await api.client.get("/health/ready")).status_code == 200
        finally:
            may_end.set()
        assert len(pings) == 1, "a check that hangs is not started again"

    async def test_is_a_service_whose_oldest_transfer_waits_for_too_long(
        self, api: Api, database: Database, workers: Any, clock: Clock
    ) -> None:
        accepted(database, from_ada_to_bob(bank_of_two(database, ada_has=500)))
        clock.advance(seconds=9)
        assert (await api.health())["checks"]["settling"] == {"status": "ok", "oldest_pending_age_seconds": 9.0} | {
            "latency_ms": ANY
        }
        clock.advance(seconds=2)
        assert statuses(await api.health())["settling"] == "degraded"
        assert (await api.client.get("/health/ready")).json()["status"] == "ok"

    async def test_is_degraded_while_the_clock_is_in_doubt(
        self, api: Api, operator: Person, workers: Any, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clocks.observe(database)
        real = core.services.clocks.now_us
        monkeypatch.setattr(core.services.clocks, "now_us", lambda: real() + 40 * 86_400 * 1_000_000)
        await api.health()
        found = (await operator.get("/health")).json()
        assert statuses(found) == dict.fromkeys(NEEDED | WANTED, "ok") | {"clock": "degraded"}
        check = found["checks"]["clock"]
        assert (check["doubt"], round(check["difference_seconds"] / 86_400)) == ("jumped", 40)
        assert check["wall_at"] > check["expected_at"]

    async def test_is_a_service_whose_ledger_does_not_verify(self, api: Api, database: Database, workers: Any) -> None:
        report = Report()
        report.add("reserved_is_pending", "account 2: 7 reserved, 0 pending")
        with unit_of_work(database) as connection:
            keep(connection, report, started_at=to_datetime(now_us()))
        found = await api.health()
        assert statuses(found) == dict.fromkeys(NEEDED | WANTED, "ok") | {"ledger": "degraded"}
        assert found["checks"]["ledger"]["breaches"] == 1
        answer = await api.client.get("/health")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        assert (await api.client.get("/health/ready")).status_code == 200


async def assert_unavailable(api: Api, check: str) -> None:
    found = await api.health()
    assert found["checks"][check]["status"] == "unavailable"
    for path in ("/health/ready", "/health"):
        answer = await api.client.get(path)
        assert (answer.status_code, answer.json()) == (503, {"status": "unavailable", "checks": {}})
    assert (await api.client.get("/health/live")).status_code == 200


class TestTheWrite:
    """The check of the database writes, unless a transfer has just shown that it can be written."""

    @staticmethod
    def passed(database: Database) -> int:
        with database.reader.connect() as connection:
            count: int = connection.exec_driver_sql("SELECT passed FROM fences").scalar_one()
        return count

    async def test_is_made_each_second_while_nothing_is_accepted(self, api: Api, database: Database) -> None:
        before = self.passed(database)
        await api.health()
        await api.health()
        assert self.passed(database) == before + 2

    async def test_is_left_out_while_transfers_are_accepted(
        self, api: Api, database: Database, ada: Person, pair: Pair
    ) -> None:
        before = self.passed(database)
        assert (await ada.post("/transfers", payment(pair.payer, pair.payee, 1))).status_code == 202
        await api.health()
        assert self.passed(database) == before


class TestUnavailable:
    async def test_is_a_database_that_cannot_be_written(self, api: Api) -> None:
        # The writer's connection is made to fail like one on a read-only file.
        api.runtime.database.writer.raw_connection().driver_connection.execute("PRAGMA query_only=ON")
        await assert_unavailable(api, "database")

    async def test_is_a_database_that_gives_a_turn_and_refuses_the_write(self, api: Api, database: Database) -> None:
        with unit_of_work(database) as connection:
            connection.exec_driver_sql(
                "CREATE TRIGGER full BEFORE UPDATE ON fences BEGIN SELECT RAISE(ABORT, 'no write'); END"
            )
        await assert_unavailable(api, "database")

    async def test_is_a_database_that_another_process_keeps_locked(self, start: Start, database: Database) -> None:
        async with start(intake_seconds=0.3) as api:
            with locked(database):
                await assert_unavailable(api, "database")
            assert (await ask(api, "/health/ready")).status_code == 200

    async def test_is_a_database_at_another_migration(self, api: Api, database: Database) -> None:
        api.runtime.database.moved_on = lambda: None  # otherwise the process of the tests would be asked to stop
        move_on(database, "0000")
        await assert_unavailable(api, "migrations")

    async def test_is_a_missing_database_file(self, api: Api, database: Database) -> None:
        database.path.unlink()
        await assert_unavailable(api, "migrations")

    async def test_is_a_disk_with_too_little_room(self, start: Start) -> None:
        async with start(disk_free_mb=10**9) as api:
            await assert_unavailable(api, "disk")

    async def test_is_a_check_that_takes_too_long_and_leaves_nothing_behind(
        self, api: Api, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("api.runtime.health.CHECK_SECONDS", 0.05)
        with locked(database):
            await assert_unavailable(api, "database")
            waiting = api.runtime.intake._jobs
            assert len(waiting) == 0, "an abandoned check takes a place in the intake"

        async def is_ready() -> bool:
            return (await ask(api, "/health/ready")).status_code == 200

        await until(is_ready)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def read(url: str) -> bytes:
    with build_opener(ProxyHandler({})).open(url) as answer:
        found: bytes = answer.read()
        return found
