"""The heartbeat of a process, and the core files that it must not leave."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.processes import heartbeats, lifeline
from core.processes.lifeline import Heartbeat
from core.settings import load_settings
from tests.waiting import eventually


@pytest.fixture
def fast_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifeline, "HEARTBEAT_SECONDS", 0.01)


@pytest.mark.usefixtures("fast_beats")
def test_a_heartbeat_beats_until_it_is_stopped(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    assert heartbeats.age(settings.run_dir, "jobs") is None
    heartbeat = Heartbeat(settings, "jobs")
    heartbeat.start()
    path = heartbeats.path_of(settings.run_dir, "jobs")
    assert path.stat().st_mode & 0o777 == 0o600
    os.utime(path, (0, 0))
    eventually(lambda: path.stat().st_mtime > 0)
    assert 0 <= (heartbeats.age(settings.run_dir, "jobs") or 0) < 60
    path.unlink()
    eventually(path.exists)
    heartbeat.stop()
    heartbeat.stop()
    assert heartbeats.age(settings.run_dir, "jobs") is None


@pytest.mark.usefixtures("fast_beats")
def test_an_unhealthy_process_has_no_heartbeat(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path)
    asked, well = [0], [True]

    def alive() -> bool:
        asked[0] += 1
        return well[0]

    heartbeat = Heartbeat(settings, "jobs", alive=alive)
    heartbeat.start()
    well[0] = False
    eventually(lambda: asked[0] > 4)
    path = heartbeats.path_of(settings.run_dir, "jobs")
    os.utime(path, (0, 0))
    looks = asked[0]
    eventually(lambda: asked[0] > looks + 4)
    assert path.stat().st_mtime == 0
    well[0] = True
    eventually(lambda: path.stat().st_mtime > 0)
    heartbeat.stop()


def test_a_process_and_its_children_leave_no_core_file() -> None:
    limits = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE))"
    start = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {limits!r}])"
    script = f"from core.processes.lifeline import never_dump_core; never_dump_core(); {start}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "(0, 0)\n"
