"""The state of the service, for people, load balancers and supervisors."""

import asyncio
import os
import threading
from typing import Any

import pytest

from core.clock import now_us, to_datetime
from core.processes import heartbeats
from core.processes.lifeline import Heartbeat
from core.services.verification import Report, keep
from core.settings import Settings
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.api.conftest import Api, Start, locked, until
from tests.api.contract import Json
from tests.builders import move_on

NEEDED = {"database", "migrations", "disk"}
WANTED = {"queue", "sqlite", "ledger", "settlement", "jobs", "scheduler"}


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


async def test_a_process_that_answers_is_live(api: Api) -> None:
    answer = await api.client.get("/health/live")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "checks": {}})


async def test_with_all_its_parts_the_service_is_ok(api: Api, workers: Any) -> None:
    answer = await api.client.get("/health")
    assert answer.status_code == 200
    assert answer.json()["status"] == "ok"
    assert statuses(answer.json()) == dict.fromkeys(NEEDED | WANTED, "ok")
    for check in answer.json()["checks"].values():
        assert check["latency_ms"] >= 0
    assert answer.json()["checks"]["disk"]["free_bytes"] > 0
    assert answer.headers["cache-control"] == "no-store"


async def test_ready_checks_only_the_parts_that_accepting_needs(api: Api) -> None:
    answer = await api.client.get("/health/ready")
    assert answer.status_code == 200
    assert statuses(answer.json()) == dict.fromkeys(NEEDED, "ok")


class TestDegraded:
    async def test_is_a_service_without_workers(self, api: Api) -> None:
        answer = await api.client.get("/health")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        found = statuses(answer.json())
        assert {name for name, status in found.items() if status == "degraded"} == {"settlement", "jobs", "scheduler"}
        assert answer.json()["checks"]["jobs"]["heartbeat_age_seconds"] is None

    async def test_is_a_service_with_a_silent_worker(self, api: Api, settings: Settings, workers: Any) -> None:
        workers[0]._stopped.set()
        workers[0]._thread.join()
        path, long_ago = heartbeats.path_of(settings.run_dir, "settlement"), 1_000_000_000
        path.touch()
        os.utime(path, (long_ago, long_ago))
        answer = await api.client.get("/health")
        assert answer.json()["checks"]["settlement"]["status"] == "degraded"
        assert answer.json()["checks"]["settlement"]["heartbeat_age_seconds"] > settings.silent_seconds

    async def test_is_a_service_without_its_queue(self, api: Api, workers: Any) -> None:
        api.queue.connected = False
        answer = await api.client.get("/health")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        assert statuses(answer.json()) == dict.fromkeys(NEEDED | WANTED, "ok") | {"queue": "degraded"}
        assert (await api.client.get("/health/ready")).status_code == 200

    async def test_is_a_service_with_a_hanging_queue_while_nothing_else_waits(
        self, api: Api, workers: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pings, may_end = [], threading.Event()

        def ping() -> None:
            pings.append(1)
            may_end.wait(30)

        monkeypatch.setattr(api.runtime.queue_ping, "_ping", ping)
        monkeypatch.setattr("api.routes.health.CHECK_SECONDS", 1)
        try:
            asked = [asyncio.ensure_future(api.client.get("/health")) for _ in range(40)]
            await until(lambda: len(pings) > 0)
            assert (await api.client.get("/health/ready")).status_code == 200
            for answer in await asyncio.gather(*asked):
                assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
                assert statuses(answer.json()) == dict.fromkeys(NEEDED | WANTED, "ok") | {"queue": "degraded"}
        finally:
            may_end.set()
        assert len(pings) == 1

    async def test_is_a_service_whose_ledger_does_not_verify(self, api: Api, database: Database, workers: Any) -> None:
        report = Report()
        report.add("reserved_is_pending", "account 2: 7 reserved, 0 pending")
        with unit_of_work(database) as connection:
            keep(connection, report, started_at=to_datetime(now_us()))
        answer = await api.client.get("/health")
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
        assert statuses(answer.json()) == dict.fromkeys(NEEDED | WANTED, "ok") | {"ledger": "degraded"}
        assert answer.json()["checks"]["ledger"]["breaches"] == 1
        assert (await api.client.get("/health/ready")).status_code == 200


async def assert_unavailable(api: Api, check: str) -> None:
    for path in ("/health/ready", "/health"):
        answer = await api.client.get(path)
        assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
        assert answer.json()["checks"][check]["status"] == "unavailable"
    assert (await api.client.get("/health/live")).status_code == 200


class TestUnavailable:
    async def test_is_a_database_that_cannot_be_written(self, api: Api) -> None:
        # The writer's connection is made to fail like one on a read-only file.
        api.runtime.database.writer.raw_connection().driver_connection.execute("PRAGMA query_only=ON")
        await assert_unavailable(api, "database")

    async def test_is_a_database_that_another_process_keeps_locked(self, start: Start, database: Database) -> None:
        async with start(intake_seconds=0.3) as api:
            with locked(database):
                await assert_unavailable(api, "database")
            assert (await api.client.get("/health/ready")).status_code == 200

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
        monkeypatch.setattr("api.routes.health.CHECK_SECONDS", 0.05)
        with locked(database):
            answers = await asyncio.gather(*(api.client.get("/health/ready") for _ in range(5)))
            assert {answer.status_code for answer in answers} == {503}
            waiting = api.runtime.intake._jobs
            assert len(waiting) == 0, "an abandoned check takes a place in the intake"

        async def is_ready() -> bool:
            return (await api.client.get("/health/ready")).status_code == 200

        await until(is_ready)
