"""Heartbeats: each process has its own, so no process hides the silence of another."""

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from core.processes import heartbeats
from core.processes.healthcheck import complaint
from core.processes.lifeline import Heartbeat
from core.settings import load_settings
from tests.waiting import eventually

LONG_AGO = 1_000_000_000


def touch(path: Path, at: float | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    if at is not None:
        os.utime(path, (at, at))
    return path


def elsewhere(run_dir: Path, name: str) -> Path:
    own = heartbeats.path_of(run_dir, name)
    return own.with_name(own.name.replace(f".{heartbeats.HOST}.", ".another-host."))


def test_the_age_of_a_name_is_the_age_of_its_newest_heartbeat(tmp_path: Path) -> None:
    assert heartbeats.age(tmp_path, "settlement") is None
    touch(heartbeats.path_of(tmp_path, "settlement", 1), LONG_AGO)
    old = heartbeats.age(tmp_path, "settlement")
    assert old is not None
    assert old > 1_000_000
    touch(elsewhere(tmp_path, "settlement"))
    new = heartbeats.age(tmp_path, "settlement")
    assert new is not None
    assert new < 60


def test_a_standby_worker_does_not_count_as_the_active_one(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    heartbeat = Heartbeat(settings, "standby")
    heartbeat.start()
    assert heartbeats.age(settings.run_dir, "settlement") is None
    heartbeat.rename("settlement")
    assert heartbeats.age(settings.run_dir, "settlement") is not None
    assert heartbeats.age(settings.run_dir, "standby") is None
    heartbeat.stop()
    assert heartbeats.here(settings.run_dir) == {}


def test_the_last_heartbeat_of_a_process_is_found_by_its_number_in_any_role(tmp_path: Path) -> None:
    assert heartbeats.last_beat_ns(tmp_path, 7) is None
    path = touch(heartbeats.path_of(tmp_path, "standby", 7))
    touch(heartbeats.path_of(tmp_path, "jobs", 77), LONG_AGO)
    assert heartbeats.last_beat_ns(tmp_path, 7) == path.stat().st_mtime_ns


def test_only_the_heartbeats_of_the_given_process_are_deleted(tmp_path: Path) -> None:
    gone, kept = (touch(heartbeats.path_of(tmp_path, "jobs", pid)) for pid in (7, 8))
    strange = touch(elsewhere(tmp_path, "jobs"))
    heartbeats.forget(tmp_path, 7)
    assert sorted(tmp_path.iterdir()) == sorted([kept, strange])
    assert not gone.exists()


def test_beats_in_memory_of_a_killed_process_do_not_hold_a_database_whose_folder_was_lost(tmp_path: Path) -> None:
    killed = subprocess.Popen(["true"])
    os.waitid(os.P_PID, killed.pid, os.WEXITED | os.WNOWAIT)  # a zombie, as after the end of its supervisor
    memory = heartbeats.memory_dir(tmp_path)
    names = (
        heartbeats.path_of(tmp_path, "api", killed.pid).name,
        heartbeats.path_of(tmp_path, "jobs").name,
        f"scheduler.another-host.{killed.pid}.heartbeat",
    )
    beats = [touch(memory / name) for name in names]
    try:
        assert {beat.name for beat in heartbeats.fresh(tmp_path, 20)} == {"jobs", "scheduler"}
        killed.wait()
        assert {beat.name for beat in heartbeats.fresh(tmp_path, 20)} == {"jobs", "scheduler"}
    finally:
        for beat in beats:
            beat.unlink()
        memory.rmdir()


def test_heartbeats_older_than_an_hour_are_deleted_at_the_next_start(tmp_path: Path) -> None:
    kept = touch(elsewhere(tmp_path, "api"), time.time() - heartbeats.STALE_SECONDS + 60)
    touch(elsewhere(tmp_path, "jobs"), time.time() - heartbeats.STALE_SECONDS - 1)
    heartbeats.forget_stale(tmp_path)
    assert list(tmp_path.iterdir()) == [kept]


class TestAContainer:
    @pytest.fixture(autouse=True)
    def run_dir(self, clean_environment: pytest.MonkeyPatch, tmp_path: Path) -> Path:
        clean_environment.setenv("GIRO_DATA_DIR", str(tmp_path))
        return tmp_path / "run"

    def test_is_healthy_while_all_its_processes_have_heartbeats(self, run_dir: Path) -> None:
        touch(heartbeats.path_of(run_dir, "jobs"))
        assert complaint() is None

    def test_is_unhealthy_if_nothing_runs_in_it(self, run_dir: Path) -> None:
        touch(elsewhere(run_dir, "jobs"))
        assert complaint() == "no heartbeat file"

    def test_is_unhealthy_if_one_of_its_processes_is_silent(self, run_dir: Path) -> None:
        touch(heartbeats.path_of(run_dir, "jobs", 7))
        touch(heartbeats.path_of(run_dir, "scheduler", 8), time.time() - 30)
        assert str(complaint()).startswith("scheduler has not beaten for ")

    def test_is_silent_after_the_time_of_the_setting(
        self, run_dir: Path, clean_environment: pytest.MonkeyPatch
    ) -> None:
        touch(heartbeats.path_of(run_dir, "scheduler"), time.time() - 30)
        clean_environment.setenv("GIRO_SILENT_SECONDS", "60")
        assert complaint() is None

    def test_is_unhealthy_if_its_api_has_a_heartbeat_but_does_not_answer(
        self, run_dir: Path, clean_environment: pytest.MonkeyPatch
    ) -> None:
        touch(heartbeats.path_of(run_dir, "api"))
        clean_environment.setenv("GIRO_PORT", "1")
        assert str(complaint()).startswith("the API does not answer: ")


class TestADiskThatFails:
    """Processes also beat in memory, so the disk of the data folder silences none."""

    @pytest.fixture
    def broken(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A folder for runs that cannot be made, because a file is in its place."""
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "run").touch()
        monkeypatch.setenv("GIRO_DATA_DIR", str(tmp_path / "data"))
        return tmp_path / "data" / "run"

    def test_silences_no_process(self, broken: Path) -> None:
        heartbeat = Heartbeat(load_settings(), "jobs")
        heartbeat.start()
        try:
            assert heartbeats.last_beat_ns(broken, os.getpid()) is not None, "the supervisor does not kill it"
            assert heartbeats.here(broken).keys() == {"jobs"}
            assert complaint() is None, "its container is healthy"
        finally:
            heartbeat.stop()
        assert not heartbeats.memory_dir(broken).exists(), "nothing is left in memory"

    def test_that_hangs_delays_no_other_beat(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        settings, may_go_on, beats = load_settings(data_dir=tmp_path), threading.Event(), []
        touch_file = Heartbeat._touch

        def touched(self: Heartbeat, path: Path) -> None:
            if path.parent == settings.run_dir and beats:
                may_go_on.wait(30)
            beats.append(path)
            touch_file(self, path)

        monkeypatch.setattr(Heartbeat, "_touch", touched)
        monkeypatch.setattr("core.processes.lifeline.HEARTBEAT_SECONDS", 0.01)
        monkeypatch.setattr("core.processes.lifeline.STOP_SECONDS", 0.01)
        heartbeat = Heartbeat(settings, "jobs")
        beating = threading.Thread(target=heartbeat._run, args=(settings.run_dir,), daemon=True)
        heartbeat._beat(heartbeats.memory_dir(settings.run_dir))
        beating.start()
        heartbeat._threads[0].start()
        eventually(lambda: len(beats) > 5)
        assert {path.parent for path in beats} == {heartbeats.memory_dir(settings.run_dir)}
        may_go_on.set()
        heartbeat.stop()
        beating.join()
        heartbeats.forget(settings.run_dir, os.getpid())

    def test_in_memory_a_folder_of_another_user_is_not_used(self, tmp_path: Path) -> None:
        heartbeats.memory_dir(tmp_path).symlink_to(tmp_path)
        try:
            assert heartbeats.folders(tmp_path) == [tmp_path]
        finally:
            heartbeats.memory_dir(tmp_path).unlink()
