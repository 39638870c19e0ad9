"""`giro status`: beside one `giro up`, beside parts that run one by one, beside and inside a compose stack."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from core.files.locks import sign
from core.processes import heartbeats
from core.processes.addresses import published_url
from core.processes.database_hold import hold_database
from core.settings import Settings
from core.storage.sqlite.engine import Database
from tests.builders import accepted, bank_of_two, from_ada_to_bob
from tests.unit.cli.test_cli import everything_said, giro

STACK = {"api": "3f2a9c1be0d4", "settlement": "aa0000000001", "standby": "aa0000000002", "jobs": "bb0000000001"}
"""The containers of some parts."""


def beat(settings: Settings, name: str, host: str = heartbeats.HOST, age: float = 0) -> None:
    """Let a process with number 7 on a host have beaten some seconds ago."""
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    path = settings.run_dir / f"{name}.{host}.7.heartbeat"
    path.touch()
    os.utime(path, (time.time() - age,) * 2)


def found() -> dict[str, Any]:
    result = giro("status", "--json")
    assert result.exit_code == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


@pytest.fixture
def stack(settings: Settings, database: Database) -> None:
    for name, host in STACK.items():
        beat(settings, name, host)


def test_waiting_work_is_shown_without_a_service(database: Database) -> None:
    accepted(database, from_ada_to_bob(bank_of_two(database, ada_has=500)))
    said = everything_said(giro("status"))
    assert "1 transfer, the oldest for" in said
    assert "no `giro up` on this database" in said
    assert "settlement not running" in said
    assert (found()["pending"], found()["runs"], found()["processes"]) == (1, None, [])
    assert found()["oldest_pending_seconds"] >= 0


def test_one_service_is_shown_with_its_address(settings: Settings, database: Database) -> None:
    beat(settings, "api")
    with hold_database(settings) as lock:
        sign(lock, "`giro up` at http://127.0.0.1:8000")
        said = everything_said(giro("status"))
        answer = found()
    assert f"process {os.getpid()} on" in said
    assert "`giro up` at http://127.0.0.1:8000" in said
    assert answer["runs"] == "up"


def test_parts_that_run_one_by_one_are_shown_with_the_address_of_the_settings(
    clean_environment: pytest.MonkeyPatch, settings: Settings, database: Database
) -> None:
    clean_environment.setenv("GIRO_PORT", "8765")
    beat(settings, "settlement")
    assert "API not running" in everything_said(giro("status"))
    beat(settings, "api")
    said = everything_said(giro("status"))
    assert "2 parts, each on its own" in said
    assert "API http://127.0.0.1:8765" in said
    assert (found()["runs"], found()["api_url"]) == ("parts", "http://127.0.0.1:8765")


@pytest.mark.usefixtures("stack")
def test_a_compose_stack_is_shown_with_its_containers_and_its_published_address() -> None:
    said = everything_said(giro("status"))
    assert "a compose stack: 4 processes in 4 containers" in said
    assert "http://127.0.0.1:8000, inside the stack at http://api:8000" in said
    for name, host in STACK.items():
        assert f"{name} alive 0." in said
        assert f"process 7 on {host}" in said
    assert "scheduler not running" in said


@pytest.mark.usefixtures("stack")
def test_the_published_address_comes_from_the_env_file_on_the_machine_of_the_stack(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("GIRO_PUBLISH=0.0.0.0:9000\n")
    assert (found()["runs"], found()["api_url"]) == ("compose", "http://127.0.0.1:9000")


@pytest.mark.usefixtures("stack")
def test_the_published_address_comes_from_the_environment_inside_a_container(
    clean_environment: pytest.MonkeyPatch,
) -> None:
    clean_environment.setenv("GIRO_PUBLISH", "192.0.2.1:9000")
    assert found()["api_url"] == "http://192.0.2.1:9000"


def test_a_silent_process_is_named_unless_another_one_does_its_work(settings: Settings, database: Database) -> None:
    beat(settings, "jobs", "bb0000000001", age=100)
    beat(settings, "jobs", "bb0000000002", age=200)
    said = everything_said(giro("status"))
    assert "jobs alive 100" in said
    assert "s ago: silent, process 7 on bb0000000001" in said
    assert "bb0000000002" not in said
    beat(settings, "jobs", "bb0000000003")
    assert [(each["host"], each["alive"]) for each in found()["processes"]] == [("bb0000000003", True)]


@pytest.mark.parametrize(
    ("published", "url"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("0.0.0.0:8000", "http://127.0.0.1:8000"),
        ("8000", "http://127.0.0.1:8000"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("bank.example:80-90", "bank.example:80-90"),
    ],
)
def test_a_published_address_is_written_as_a_url(published: str, url: str) -> None:
    assert published_url(published) == url
