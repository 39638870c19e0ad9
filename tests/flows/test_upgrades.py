"""Upgrades next to processes of the previous version: nothing changes while they run, and they write nothing after."""

import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import core
from core.processes.exit_statuses import HELD
from core.processes.parts import service_children
from core.queue.broker import connect, make_broker
from core.queue.wakeups import send_wakeup
from core.security.secrets import Secrets
from core.settings import Settings, load_settings
from core.storage.engines import SCHEMA_REVISION
from core.storage.sqlite.engine import Database
from tests.builders import accepted, bank_of_two, from_ada_to_bob, rows
from tests.flows.stack import Stack
from tests.waiting import eventually

pytestmark = [
    pytest.mark.whole_service,
    pytest.mark.timeout(600),
]  # each command starts a process, which takes seconds on a busy machine

MakeStack = Callable[..., Stack]

HOME = Path(core.__file__).parent.parent
PATIENCE = 120
"""Seconds of silence until a stopped process would be killed: longer than any step of these tests."""

NEXT = "9999"
MIGRATION = f'''
from alembic import op
revision, down_revision = "{NEXT}", "{SCHEMA_REVISION}"
def upgrade() -> None:
    op.execute("UPDATE fences SET passed = passed")
'''


@pytest.fixture(scope="module")
def next_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the program with one additional migration, like the next version."""
    folder = tmp_path_factory.mktemp("next")
    for package in ("api", "core", "workers", "migrations"):
        shutil.copytree(HOME / package, folder / package)
    engines = folder / "core" / "storage" / "engines.py"
    needed = f'SCHEMA_REVISION = "{SCHEMA_REVISION}"'
    assert needed in engines.read_text()
    engines.write_text(engines.read_text().replace(needed, f'SCHEMA_REVISION = "{NEXT}"'))
    (folder / "migrations" / "versions" / f"{NEXT}_next.py").write_text(MIGRATION)
    return folder


def settings_of(stack: Stack) -> Settings:
    return load_settings(_env_file=None, data_dir=stack.data, database_url="", redis_url=None)


@contextmanager
def opened(stack: Stack) -> Iterator[Database]:
    """Open the database of a stack like another process of its version."""
    database = Database(settings_of(stack))
    yield database
    database.close()


def revision(stack: Stack) -> str | None:
    with opened(stack) as database:
        return database.schema_revision()


def migrate_by_force(stack: Stack, to: str = NEXT) -> None:
    """Migrate while everything runs, which Giro itself never does."""
    with closing(sqlite3.connect(settings_of(stack).database_path, timeout=30)) as raw, raw:
        raw.execute("UPDATE alembic_version SET version_num = ?", (to,))


def refused(done: "subprocess.CompletedProcess[str]") -> str:
    """Return the one line of a command's refusal."""
    assert (done.returncode, done.stderr.count("\n")) == (HELD, 1), done.stdout + done.stderr
    return done.stderr


@contextmanager
def run_alone(stack: Stack, part: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run one part of a service on a migrated database, with the queue server that it needs."""
    assert stack.giro("migrate").returncode == 0
    stack.spawn(service_children(settings_of(stack))[0].command, "queue")
    eventually(settings_of(stack).embedded_queue_socket.exists)
    process = stack.run(part)
    ready = "api_ready" if part == "api" else "worker_ready"
    eventually(lambda: stack.logged(ready, part), 60)
    yield process


def child_of(stack: Stack, part: str) -> int:
    return int(stack.logged("child_started", part)[-1]["pid"])


# --- while something runs ----------------------------------------------------------------------------------------


NEED_TO_BE_ALONE = [
    (["migrate"], True),
    (["up"], True),
    (["restore", "giro-20261124T150658.123Z.db"], False),
    (["operator", "erase", "ada@example.com"], False),
]
"""Commands, and whether they need the next version to have something to do."""


@pytest.mark.parametrize(("command", "of_the_next"), NEED_TO_BE_ALONE)
def test_exclusive_commands_are_refused_while_the_service_runs(
    stack: Stack, next_version: Path, command: list[str], of_the_next: bool
) -> None:
    stack.program = next_version if of_the_next else None
    said = refused(stack.giro(*command))
    stack.program = None
    assert f"is held by another Giro: process {stack.supervisor.pid} on " in said
    assert f"`giro up` at {stack.url}, since 2" in said
    assert said.endswith("; stop it first\n")
    assert revision(stack) == SCHEMA_REVISION
    ada = stack.sign_up()
    payer, payee = ada.open_account(funds=500), ada.open_account()
    assert ada.poll_to_end(ada.submit(payer, payee).json()["id"]) == "completed"


def test_migration_without_changes_works_while_the_service_runs(stack: Stack) -> None:
    assert stack.giro("migrate").returncode == 0
    assert stack.supervisor.poll() is None


@pytest.mark.parametrize(("part", "named"), [("worker", ", the settlement worker, since 2"), ("api", ", alive ")])
def test_exclusive_commands_are_refused_while_one_part_runs(
    new_stack: MakeStack, next_version: Path, part: str, named: str
) -> None:
    stack = new_stack()
    with run_alone(stack, part) as process:
        stack.environment["GIRO_PORT"] = "0"  # for `up`, which would fail on the API's port
        for command, of_the_next in NEED_TO_BE_ALONE:
            stack.program = next_version if of_the_next else None
            said = refused(stack.giro(*command))
            assert f"process {child_of(stack, part)} on " in said
            assert named in said
        assert revision(stack) == SCHEMA_REVISION
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    stack.program = next_version
    assert stack.giro("migrate").returncode == 0
    assert revision(stack) == NEXT


def test_upgrade_waits_until_the_service_stops_and_the_ledger_verifies(
    new_stack: MakeStack, next_version: Path
) -> None:
    stack = new_stack().start()
    ada = stack.sign_up()
    payer, payee = ada.open_account(funds=500), ada.open_account()
    stack.kill("settlement", signal.SIGSTOP)
    pending = ada.submit(payer, payee).json()["id"]
    stack.program = next_version
    refused(stack.giro("migrate"))
    waiting = stack.run("migrate", "--wait", "60")
    eventually(lambda: "waiting 60 s for it" in stack.log_text("migrate"), 60)
    assert stack.stop() == 0
    assert waiting.wait(60) == 0, stack.log_text("migrate")
    assert f"is at migration {NEXT}" in stack.output("migrate")
    stack.start()
    assert ada.poll_to_end(pending) == "completed"
    verified = stack.giro("verify")
    assert (verified.returncode, "every rule holds" in verified.stdout) == (0, True), verified.stdout


# --- a migration despite running processes -----------------------------------------------------------------------


def moved_on(stack: Stack, name: str) -> list[tuple[str, str, str]]:
    """Return the processes that found another schema than theirs, with that schema and their own."""
    return [(line["process"], line["found"], line["needed"]) for line in stack.logged("schema_moved_on", name)]


def test_service_stops_writing_and_ends_once_its_database_is_migrated(new_stack: MakeStack) -> None:
    stack = new_stack(silent_seconds=PATIENCE).start()
    ada = stack.sign_up()
    payer, payee = ada.open_account(funds=500), ada.open_account()
    stack.kill("settlement", signal.SIGSTOP)
    ada.submit(payer, payee)
    stack.kill("scheduler", signal.SIGSTOP)
    before = ledger(stack)
    migrate_by_force(stack)
    answer = ada.submit(payer, payee)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert stack.supervisor.wait(PATIENCE / 2) == 2
    assert ("api", NEXT, SCHEMA_REVISION) in moved_on(stack, "up")
    assert f"at migration {NEXT}, from a newer Giro" in stack.log_text("up").splitlines()[-1]
    assert [line["child"] for line in stack.logged("child_killed")] == []
    assert ledger(stack) == before
    again = stack.giro("up")
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    migrate_by_force(stack, SCHEMA_REVISION)
    assert stack.giro("verify").returncode == 0


def test_worker_of_the_previous_version_settles_nothing_and_ends(new_stack: MakeStack) -> None:
    stack = new_stack(silent_seconds=PATIENCE)
    with run_alone(stack, "worker") as process:
        with opened(stack) as database:
            bank = bank_of_two(database, ada_has=500)
            stopped = child_of(stack, "worker")
            os.kill(stopped, signal.SIGSTOP)
            accepted(database, from_ada_to_bob(bank))
        broker = make_broker(connect(Secrets(settings_of(stack)).queue_url()))
        send_wakeup(broker)
        broker.close()
        before = ledger(stack)
        migrate_by_force(stack)
        os.kill(stopped, signal.SIGCONT)
        assert process.wait(PATIENCE / 2) == 2
    assert moved_on(stack, "worker") == [("settlement", NEXT, SCHEMA_REVISION)]
    (died,) = stack.logged("child_died", "worker")
    assert died["exit_status"] == 0, "the worker ended normally, as on a stop signal"
    assert f"at migration {NEXT}, from a newer Giro" in stack.log_text("worker").splitlines()[-1]
    assert ledger(stack) == before
    migrate_by_force(stack, SCHEMA_REVISION)
    assert stack.giro("verify").returncode == 0


def ledger(stack: Stack) -> list[list[dict[str, Any]]]:
    """Return everything that acceptance and settlement write."""
    with opened(stack) as database:
        tables = ("transfers", "endings", "transactions", "accounts", "reservations", "lanes", "blocks")
        return [rows(database, f"SELECT * FROM {table} ORDER BY 1") for table in tables]
