"""A running service on a full, read-only, locked or broken disk: its answers, and the data that survives."""

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path

import httpx2
import pytest

from tests.faults.disks import failing_calls
from tests.flows.stack import Client, Stack, is_alive
from tests.waiting import eventually

pytestmark = [pytest.mark.whole_service, pytest.mark.strace]

WRITE = "pwrite64"
SYNC = "fsync,fdatasync"
HEALED_SECONDS = 5

COMMIT_FAILS = [
    pytest.param(WRITE, "ENOSPC", id="full"),
    pytest.param(WRITE, "EROFS", id="read-only"),
    pytest.param(WRITE, "EIO", id="write fails"),
    pytest.param(SYNC, "EIO", id="sync fails"),
]


class Service:
    """A stack with a user who has two accounts, on a disk that can fail on demand."""

    def __init__(self, folder: Path) -> None:
        self.stack = Stack(folder, measured=False, intake_seconds=1, sqlite_busy_ms=300)
        self.database = self.stack.data / "banking.db"

    def start(self) -> "Service":
        self.stack.start()
        self.ada: Client = self.stack.sign_up()
        self.payer, self.payee = self.ada.open_account(funds=100_000), self.ada.open_account()
        self.settle("at-the-start")
        return self

    def submit(self, key: str) -> httpx2.Response:
        return self.ada.submit(self.payer, self.payee, **{"Idempotency-Key": key})

    def settle(self, key: str) -> None:
        """Submit a transfer, which must be accepted, and wait for its end."""
        answer = self.submit(key)
        assert answer.status_code == 202, answer.text
        assert self.ada.poll_to_end(answer.json()["id"]) == "completed"

    def failing(self, child: str, calls: str, fault: str) -> AbstractContextManager[None]:
        """Make a child's writes to the database's log fail: each commit is written there completely."""
        return failing_calls(self.stack.pid_of(child), self.database.with_name("banking.db-wal"), calls, fault)

    def transfers_and_legs(self, key: str) -> tuple[int, int]:
        """Return the number of transfers with a key, and of their legs, from the file."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            query = """SELECT count(DISTINCT t.id), count(transfer_id) FROM transfers t
                       LEFT JOIN transactions ON transfer_id = t.id WHERE idempotency_key = ?"""
            transfers, legs = connection.execute(query, (key,)).fetchone()
            return transfers, legs

    def refuses(self, key: str, code: str) -> None:
        """Check that a transfer is answered 503 and does not exist, and that reads still work."""
        refused = self.submit(key)
        assert (refused.status_code, refused.json().get("code")) == (503, code)
        assert int(refused.headers["Retry-After"]) > 0
        assert self.transfers_and_legs(key) == (0, 0)
        assert self.ada.get(f"/accounts/{self.payer}").status_code == 200

    def kill_everything(self) -> None:
        """Kill every process at once, as in a crash of the machine; file data in the kernel's cache survives."""
        self.stack.supervisor.kill()
        self.stack.supervisor.wait()
        pids = [pid for pid in self.stack.pids() if is_alive(pid) and self.stack.is_ours(pid)]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not any(is_alive(pid) for pid in pids))

    def holds(self) -> bool:
        return self.stack.giro("verify").returncode == 0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all tests; each test leaves it running, healthy, and on a working disk."""
    service = Service(tmp_path_factory.mktemp("service"))
    try:
        yield service.start()
        assert service.holds()
    finally:
        service.stack.close()


@pytest.mark.parametrize(("calls", "error"), COMMIT_FAILS)
def test_one_failed_commit_answers_unavailable_and_frees_the_key(service: Service, calls: str, error: str) -> None:
    key = f"commit-{calls}-{error}"
    with service.failing("api", calls, f"error={error}:when=1"):
        service.refuses(key, "unavailable")
    service.settle(key)
    assert service.transfers_and_legs(key) == (1, 2)


@pytest.mark.parametrize(("calls", "error"), COMMIT_FAILS)
def test_failed_fence_answers_outcome_unknown_and_the_key_makes_one_transfer(
    service: Service, calls: str, error: str
) -> None:
    key = f"fence-{calls}-{error}"
    with service.failing("api", calls, f"error={error}"):
        service.refuses(key, "outcome_unknown")
        service.refuses(key, "outcome_unknown")
    service.settle(key)
    assert service.submit(key).status_code == 202
    assert service.transfers_and_legs(key) == (1, 2)


def test_open_transaction_of_an_operator_makes_writes_unavailable(service: Service) -> None:
    with closing(sqlite3.connect(service.database, isolation_level=None)) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        service.refuses("locked", "unavailable")
        foreign.execute("ROLLBACK")
    service.settle("locked")
    assert service.transfers_and_legs("locked") == (1, 2)


@pytest.mark.parametrize("when", ["", ":when=1"], ids=["for as long as it lasts", "once"])
@pytest.mark.parametrize(("calls", "error"), COMMIT_FAILS)
def test_transfers_stay_pending_on_a_broken_disk_and_settle_once_after_repair(
    service: Service, calls: str, error: str, when: str
) -> None:
    key = f"settled-{calls}-{error}{when}"
    worker = service.stack.pid_of("settlement")
    failures = len(service.stack.logged("commit_failed"))
    with service.failing("settlement", calls, f"error={error}{when}"):
        answer = service.submit(key)
        assert answer.status_code == 202
        eventually(lambda: len(service.stack.logged("commit_failed")) > failures)
        if not when:
            assert service.ada.status(answer.json()["id"]) == "pending"
            assert service.transfers_and_legs(key) == (1, 0)
    healed_at = time.monotonic()
    assert service.ada.poll_to_end(answer.json()["id"]) == "completed"
    assert time.monotonic() - healed_at < HEALED_SECONDS
    assert service.transfers_and_legs(key) == (1, 2)
    assert service.stack.pid_of("settlement") == worker, "the worker was not restarted"


def test_transfer_answered_unavailable_does_not_exist_after_a_crash(service: Service) -> None:
    with service.failing("api", SYNC, "error=EIO:when=1"):
        service.refuses("never-recorded", "unavailable")
        service.kill_everything()
    service.stack.start()
    assert service.transfers_and_legs("never-recorded") == (0, 0)
    assert service.holds()


def test_transfer_with_unknown_outcome_exists_at_most_once_after_a_crash(service: Service) -> None:
    with service.failing("api", SYNC, "error=EIO"):
        service.refuses("perhaps-recorded", "outcome_unknown")
        service.kill_everything()
    service.stack.start()
    service.settle("perhaps-recorded")
    assert service.transfers_and_legs("perhaps-recorded") == (1, 2)
    assert service.holds()
