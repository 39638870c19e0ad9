"""A service on a real disk that is full or read-only: it answers reads, and kills none of its parts."""

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from tests.faults.disks import Disk
from tests.flows.stack import Client, Stack
from tests.waiting import eventually

MEGABYTES = 32
SEEN_SECONDS = 5
SILENT_SECONDS = 3

pytestmark = [
    pytest.mark.whole_service,
    pytest.mark.skipif(not Disk.is_possible(), reason="mounting a disk needs root"),
]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    try:
        disk = Disk(tmp_path / "data", MEGABYTES)
    except subprocess.CalledProcessError:
        pytest.skip("this machine does not let root mount a disk")
    yield disk
    disk.close()


@pytest.fixture
def stack(disk: Disk) -> Iterator[Stack]:
    stack = Stack(disk.folder.parent, measured=False, scraped=True, silent_seconds=SILENT_SECONDS, disk_free_mb=1)
    yield stack
    stack.close()


def ready(stack: Stack) -> int:
    with suppress(httpx2.HTTPError):  # it is still starting
        return stack.client.get("/health/ready").status_code
    return 0


def pages_somebody(stack: Stack) -> bool:
    """Whether the errors of the API are those for which the alert DatabaseErrors pages."""
    counted = re.findall(
        r'giro_database_errors_total\{error="SQLITE_(?:IOERR|FULL|READONLY)"\} (\S+)', stack.scrape("api")
    )
    return any(float(count) > 0 for count in counted)


def customer(stack: Stack) -> tuple[Client, str, str]:
    ada = stack.sign_up()
    return ada, ada.open_account(funds=1000), ada.open_account()


def test_disk_that_fills_up_is_seen_within_seconds_and_reads_go_on(stack: Stack, disk: Disk) -> None:
    stack.start()
    ada, payer, payee = customer(stack)
    disk.fill()
    filled_at = time.monotonic()
    eventually(lambda: ready(stack) == 503, SEEN_SECONDS)
    print(f"seen after {time.monotonic() - filled_at:.2f} s")
    eventually(lambda: pages_somebody(stack), SEEN_SECONDS)
    while time.monotonic() < filled_at + 3 * SILENT_SECONDS:
        assert ada.balance(payer) == 1000
        time.sleep(0.2)
    assert not stack.logged("child_silent")
    assert not stack.logged("child_died")
    disk.free()
    eventually(lambda: ready(stack) == 200, SEEN_SECONDS)
    assert ada.poll_to_end(ada.submit(payer, payee).json()["id"]) == "completed"


def test_service_starts_for_reads_on_a_full_disk_and_accepts_once_there_is_room(stack: Stack, disk: Disk) -> None:
    stack.start()
    ada, payer, payee = customer(stack)
    assert stack.stop() == 0
    disk.fill()
    stack.supervisor = stack.run("up")
    eventually(lambda: ready(stack) == 503, 60)
    assert ada.balance(payer) == 1000
    eventually(lambda: "giro: not ready" in stack.log_text("up"))
    line = next(line for line in stack.log_text("up").splitlines() if line.startswith("giro: not ready"))
    assert "failing checks: " in line
    assert "disk" in line
    disk.free()
    eventually(lambda: ready(stack) == 200)
    assert ada.poll_to_end(ada.submit(payer, payee).json()["id"]) == "completed"
    eventually(lambda: stack.output("up").count("is ready") == 2)


def test_disk_that_becomes_read_only_is_seen_within_seconds_and_the_service_starts_on_it(
    stack: Stack, disk: Disk
) -> None:
    """The files of the write-ahead log are still there, so that reads go on."""
    stack.start()
    ada, payer, payee = customer(stack)
    disk.make_read_only()
    broken_at = time.monotonic()
    eventually(lambda: ready(stack) == 503, SEEN_SECONDS)
    print(f"seen after {time.monotonic() - broken_at:.2f} s")
    eventually(lambda: pages_somebody(stack), SEEN_SECONDS)
    stack.supervisor.kill()
    stack.supervisor.wait()
    stack.supervisor = stack.run("up")
    eventually(lambda: ready(stack) == 503, 60)
    assert ada.balance(payer) == 1000
    refused = ada.submit(payer, payee)
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    eventually(lambda: "giro: not ready" in stack.log_text("up"))
    assert "database" in stack.log_text("up").partition("giro: not ready")[2].splitlines()[0]
    stack.supervisor.kill()
    stack.supervisor.wait()
    disk.make_writable()
    stack.supervisor = stack.run("up")
    eventually(lambda: ready(stack) == 200, 60)
    assert ada.poll_to_end(ada.submit(payer, payee).json()["id"]) == "completed"
