"""The parts of `giro up`, and the lock that keeps a second instance off its data."""

import fcntl
import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from api.server.process import config_of
from core.processes import database_hold, heartbeats, run
from core.processes.addresses import api_url, bindable_port
from core.processes.database_hold import alone, hold_database, holder, no_part_beside
from core.processes.exit_statuses import HELD, StartRefused
from core.processes.parts import PROCESSES, child_environment, part, service_children
from core.settings import Settings, load_settings
from core.storage.sqlite.turnstile import settlement_lock


def test_two_status_checks_do_not_take_each_other_for_a_supervisor(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, database_url="")
    with (tmp_path / "banking.db.supervisor.lock").open("w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert holder(settings) is None


def test_a_status_check_does_not_prevent_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "lock"
    with lock.open("w") as looking, lock.open("w") as starting:
        fcntl.flock(looking, fcntl.LOCK_SH)
        monkeypatch.setattr(time, "sleep", lambda _seconds: fcntl.flock(looking, fcntl.LOCK_UN))
        database_hold._lock(starting.fileno(), tmp_path)
        with pytest.raises(BlockingIOError):
            fcntl.flock(looking, fcntl.LOCK_SH | fcntl.LOCK_NB)


@pytest.fixture
def settings_of_nobody(tmp_path: Path) -> Settings:
    """Settings of a folder on which nothing runs."""
    return load_settings(data_dir=tmp_path, database_url="")


HERE = f"process {os.getpid()} on {heartbeats.HOST}"


def refusal(settings: Settings, hold: Callable[[Settings, str], AbstractContextManager[None]] = alone) -> str:
    """The message if the database is in use."""
    with pytest.raises(StartRefused) as refused, hold(settings, "`giro migrate`"):
        pass
    assert refused.value.status == HELD
    return str(refused.value)


def test_a_migration_keeps_supervisors_and_settlement_workers_out(settings_of_nobody: Settings) -> None:
    settlement = settlement_lock(settings_of_nobody.database_path)
    with alone(settings_of_nobody, "`giro migrate`"):
        assert f"{HERE}, `giro migrate`, since 2" in refusal(settings_of_nobody)
        assert (holder(settings_of_nobody) or "").startswith(f"{HERE}, `giro migrate`, since 2")
        assert not settlement.try_acquire()
        assert settlement.holder().startswith(f"{HERE}, `giro migrate`, since 2")
    assert holder(settings_of_nobody) is None
    assert settlement.try_acquire()
    settlement.close()


@pytest.mark.parametrize("hold", [alone, no_part_beside])
def test_a_running_settlement_worker_is_named_and_prevents_a_migration(
    settings_of_nobody: Settings, hold: Callable[[Settings, str], AbstractContextManager[None]]
) -> None:
    worker = settlement_lock(settings_of_nobody.database_path)
    assert worker.take("the settlement worker")
    said = refusal(settings_of_nobody, hold)
    assert f"held by another Giro: {HERE}, the settlement worker, since 2" in said
    assert said.endswith("; stop it first")
    worker.close()
    with hold(settings_of_nobody, "`giro migrate`"):
        pass


def test_a_settlement_worker_without_a_signature_is_reported_as_an_older_version(settings_of_nobody: Settings) -> None:
    worker = settlement_lock(settings_of_nobody.database_path)
    assert worker.try_acquire()
    assert "one that has not signed: it is just starting, or of an older version" in refusal(settings_of_nobody)
    worker.close()


def test_a_supervisor_of_an_older_version_is_named(settings_of_nobody: Settings) -> None:
    signed = '{"pid": 12, "url": "http://127.0.0.1:8000", "since": "2026-11-24T04:47:22+00:00"}'
    with hold_database(settings_of_nobody) as lock:
        os.pwrite(lock, signed.encode(), 0)
        by = "process 12, http://127.0.0.1:8000, since 2026-11-24T04:47:22+00:00"
        assert f"held by another Giro: {by}; stop it first" in refusal(settings_of_nobody)


@pytest.mark.parametrize("part_name", [*PROCESSES, "standby"])
def test_a_part_on_any_host_prevents_a_migration_until_it_is_silent(
    settings_of_nobody: Settings, part_name: str
) -> None:
    settings_of_nobody.run_dir.mkdir()
    beat = settings_of_nobody.run_dir / f"{part_name}.3f2a.7.heartbeat"
    beat.touch()
    assert f"held by another Giro: {part_name}, process 7 on 3f2a, alive 0 s ago; stop" in refusal(settings_of_nobody)
    silent = time.time() - settings_of_nobody.silent_seconds - 1
    os.utime(beat, (silent, silent))
    with alone(settings_of_nobody, "`giro migrate`"):
        pass


def test_the_service_starts_and_stops_in_order_and_within_ten_seconds(tmp_path: Path) -> None:
    children = service_children(load_settings(data_dir=tmp_path, redis_url=None))
    assert [each.name for each in children] == ["valkey", "settlement", "jobs", "scheduler", "api"]
    by_stop_order = sorted(children, key=lambda each: each.stop_order)
    assert [each.name for each in by_stop_order] == ["api", "scheduler", "jobs", "settlement", "valkey"]
    assert sum(each.grace_seconds for each in children) <= 9.5


def test_one_process_of_the_service_can_be_run_alone(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, redis_url=None)
    assert list(part(settings, "jobs")[0].command) == [sys.executable, "-m", "workers.main", "jobs"]


def test_the_api_gets_the_list_of_trusted_proxies(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, redis_url=None, trusted_proxies="10.0.0.0/8, ::1")
    assert config_of(settings, "api.app:create_app").forwarded_allow_ips == "10.0.0.0/8,::1"


def test_no_queue_server_is_started_if_one_is_given(tmp_path: Path) -> None:
    children = service_children(load_settings(data_dir=tmp_path, redis_url="redis://elsewhere"))
    assert "valkey" not in [each.name for each in children]


def test_the_children_get_the_settings_of_the_supervisor_but_no_secret(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, redis_url=None, jwt_secret="x" * 32, port=1234, log_level="debug")
    given = child_environment(settings)
    assert (given["GIRO_PORT"], given["GIRO_LOG_LEVEL"], given["GIRO_DATA_DIR"]) == ("1234", "debug", str(tmp_path))
    assert given["REDIS_URL"] == f"unix://{tmp_path}/run/valkey.sock"
    assert given.get("JWT_SECRET") == os.environ.get("JWT_SECRET")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("giro.internal", "http://giro.internal:8000"),
    ],
)
def test_the_api_is_checked_at_an_address_of_this_machine(host: str, url: str) -> None:
    assert api_url(load_settings(host=host, port=8000)) == url


def test_port_0_means_a_free_port() -> None:
    port = bindable_port("127.0.0.1", 0)
    assert port != 0
    with socket.create_server(("127.0.0.1", port)):
        assert bindable_port("127.0.0.1", 0) != port


def test_an_address_of_another_machine_is_reported_in_one_line() -> None:
    with pytest.raises(StartRefused, match=r"^GIRO_HOST: cannot listen on 192\.0\.2\.1:8000 "):
        bindable_port("192.0.2.1", 8000)


# Readiness of a part, by its heartbeat


@pytest.mark.parametrize(
    ("part_name", "beating", "ready"),
    [
        ("jobs", "api", False),
        ("jobs", "jobs", True),
        ("settlement", "settlement", True),
        ("settlement", "standby", True),
    ],
)
def test_a_part_is_ready_only_with_its_own_heartbeat(tmp_path: Path, part_name: str, beating: str, ready: bool) -> None:
    settings = load_settings(data_dir=tmp_path)
    settings.run_dir.mkdir()
    heartbeats.path_of(settings.run_dir, beating).touch()
    assert (run._silent(settings, part_name) is None) == ready
