"""A real disk that is full or read-only: the service answers reads and kills none of its parts; a migration waits."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from core.settings import Settings, load_settings
from core.storage.engines import SCHEMA_REVISION
from core.storage.sqlite import migrating
from core.storage.sqlite.engine import Database
from tests.faults.disks import Disk
from tests.flows.stack import Client, Stack
from tests.old_ledger import REVISION, fill_old_ledger, head_of_rows, upgrade
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


# --- migrations ---

MORE_MEGABYTES = 160
ORDERS = 3 * migrating.ROWS
LEFT = 20_000_000
"""Bytes that stay free: enough to open the database, and too few for what the migration writes."""


@pytest.fixture
def larger_disk(tmp_path: Path) -> Iterator[Disk]:
    try:
        disk = Disk(tmp_path / "data", MORE_MEGABYTES)
    except subprocess.CalledProcessError:
        pytest.skip("this machine does not let root mount a disk")
    yield disk
    disk.close()


@pytest.fixture
def old_stack(larger_disk: Disk) -> Iterator[Stack]:
    """A stack on that disk, with a ledger that needs several commits to migrate."""
    stack = Stack(larger_disk.folder.parent, measured=False)
    settings = settings_of(stack)
    upgrade(settings, REVISION)
    fill_old_ledger(settings.database_path, ORDERS)
    upgrade(settings, "0015")
    yield stack
    stack.close()


def settings_of(stack: Stack) -> Settings:
    return load_settings(_env_file=None, data_dir=stack.data, database_url="")


def revision(stack: Stack) -> str | None:
    return Database(settings_of(stack)).schema_revision()


def test_migration_that_does_not_fit_changes_nothing_and_runs_once_there_is_room(
    old_stack: Stack, larger_disk: Disk
) -> None:
    larger_disk.fill()
    filling = larger_disk.folder / "filling"
    os.truncate(filling, filling.stat().st_size - LEFT)
    refused = old_stack.giro("migrate")
    assert refused.returncode == 2
    (said,) = [line for line in refused.stderr.splitlines() if line.startswith("giro: ")]
    assert f"giro: moving {ORDERS} transfers needs " in said
    assert "MB are free; nothing was changed: make room, and run `giro migrate` again" in said
    assert revision(old_stack) == "0015"
    larger_disk.free()
    assert old_stack.giro("migrate").returncode == 0
    assert revision(old_stack) == SCHEMA_REVISION


def test_migration_on_a_disk_that_becomes_full_continues_once_there_is_room(
    old_stack: Stack, larger_disk: Disk
) -> None:
    old_stack.environment["GIRO_FAILPOINTS"] = "migrate.after_commit=stop:1"
    process = old_stack.run("migrate")
    os.waitpid(process.pid, os.WUNTRACED)
    larger_disk.fill()
    process.send_signal(signal.SIGCONT)
    assert process.wait(60) == 2
    assert "giro: cannot read the database: database or disk is full" in old_stack.log_text("migrate")
    assert revision(old_stack) == "0016"
    larger_disk.free()
    del old_stack.environment["GIRO_FAILPOINTS"]
    assert old_stack.giro("migrate").returncode == 0
    assert revision(old_stack) == SCHEMA_REVISION
    stored, computed = head_of_rows(settings_of(old_stack).database_path)
    assert stored == computed
