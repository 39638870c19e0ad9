"""Signals at the worst moment: in the middle of a drain, and while the worker holds the lock of a unit of work."""

import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from tests.flows.stack import Client, Stack, is_alive
from tests.waiting import eventually

pytestmark = pytest.mark.whole_service

DRAINED = 120
SETTLED_AFTER_A_KILL_SECONDS = 5


class Service:
    """A stack with a user who has two accounts, and failpoints that can be switched while it runs."""

    def __init__(self, folder: Path) -> None:
        self.failpoints = folder / "failpoints"
        self.stack = Stack(folder, measured=False, intake_seconds=1, silent_seconds=10, settlement_batch=5)
        self.stack.environment["GIRO_FAILPOINTS"] = f"@{self.failpoints}"

    def start(self) -> "Service":
        self.stack.start()
        self.ada: Client = self.stack.sign_up()
        self.payer, self.payee = self.ada.open_account(funds=100_000), self.ada.open_account()
        return self

    def switch(self, said: str) -> None:
        new = self.failpoints.with_suffix(".new")
        new.write_text(said)
        new.replace(self.failpoints)

    def submit(self, key: str) -> httpx2.Response:
        return self.ada.submit(self.payer, self.payee, **{"Idempotency-Key": key})

    def stop_the_worker_in_a_unit_of_work(self, key: str) -> int:
        """Make the worker stop itself after writing everything, with the lock held, and return its pid."""
        worker = self.stack.pid_of("settlement")
        self.switch("settle.before_commit=stop:1")
        assert self.submit(key).status_code == 202
        eventually(lambda: state_of(worker) == "T")
        self.switch("")
        return worker

    def legs_of(self, key: str) -> int:
        """Return the number of a transfer's legs, from the file."""
        with closing(sqlite3.connect(f"file:{self.stack.data / 'banking.db'}?mode=ro", uri=True)) as connection:
            query = "SELECT count(*) FROM transactions JOIN transfers t ON t.id = transfer_id WHERE idempotency_key = ?"
            count: int = connection.execute(query, (key,)).fetchone()[0]
            return count

    def holds(self) -> bool:
        return self.stack.giro("verify").returncode == 0


def state_of(pid: int) -> str:
    """Return the kernel's state letter of a process: T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all tests; each test leaves it running and healthy."""
    service = Service(tmp_path_factory.mktemp("service"))
    try:
        yield service.start()
    finally:
        service.stack.close()


def test_transfer_settles_within_five_seconds_after_the_worker_is_killed(service: Service) -> None:
    service.stack.kill("settlement")
    killed_at = time.monotonic()
    transfer = service.submit("after-a-kill").json()["id"]
    assert service.ada.poll_to_end(transfer) == "completed"
    assert time.monotonic() - killed_at < SETTLED_AFTER_A_KILL_SECONDS
    assert service.legs_of("after-a-kill") == 2


def test_stopped_worker_with_the_lock_blocks_writes_and_doubles_nothing_after_waking(
    service: Service,
) -> None:
    worker = service.stop_the_worker_in_a_unit_of_work("stopped-and-woken")
    refused = service.submit("refused-meanwhile")
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert service.legs_of("stopped-and-woken") == 0
    service.stack.kill("settlement", signal.SIGCONT)
    eventually(lambda: service.legs_of("stopped-and-woken") == 2)
    assert service.legs_of("refused-meanwhile") == 0
    assert service.ada.poll_to_end(service.submit("refused-meanwhile").json()["id"]) == "completed"
    assert service.stack.pid_of("settlement") == worker
    assert service.holds()


def test_worker_stopped_in_a_unit_of_work_is_killed_and_its_work_is_done_once(service: Service) -> None:
    worker = service.stop_the_worker_in_a_unit_of_work("stopped-for-good")
    assert service.submit("refused-again").status_code == 503
    eventually(lambda: not is_alive(worker))
    assert "settlement" in [line["child"] for line in service.stack.logged("child_silent")]
    eventually(lambda: service.legs_of("stopped-for-good") == 2)
    assert service.ada.poll_to_end(service.submit("refused-again").json()["id"]) == "completed"
    assert service.holds()


def test_stop_during_a_drain_loses_and_doubles_nothing(service: Service) -> None:
    service.stack.kill("settlement", signal.SIGSTOP)
    keys = [f"drained-{number}" for number in range(DRAINED)]
    assert {service.submit(key).status_code for key in keys} == {202}
    service.switch("settle.before_commit=delay:300")
    service.stack.kill("settlement", signal.SIGCONT)
    eventually(lambda: service.legs_of(keys[0]))
    assert service.stack.stop() == 0
    assert service.stack.logged("child_killed") == []
    settled = [key for key in keys if service.legs_of(key)]
    assert 0 < len(settled) < DRAINED, "the worker was stopped in the middle"
    service.switch("")
    service.stack.start()
    eventually(lambda: all(service.legs_of(key) == 2 for key in keys))
    assert service.holds()
