"""Failpoints: off unless the environment turns them on, and reported loudly when they are on."""

import ast
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import core
from core import failpoints
from core.clock import now_us
from core.failpoints import CLOCK, POINTS, StruckError, arm, armed, hit, parse
from core.settings import SettingsError, load_settings
from core.telemetry.logging import configure_logging
from tests.unit.settings.complaints import complaint

HOME = Path(core.__file__).parent.parent
POINT = "settle.before_commit"

BESIDE_A_SLOW_THREAD = f"""
import os, threading
from core import failpoints

def pass_the_place():
    ready.wait()
    failpoints.hit("{POINT}")
    os.write(1, b"passed")
    while True:
        pass

failpoints.arm("{POINT}=stop")
os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
ready = threading.Event()
thread = threading.Thread(target=pass_the_place)
thread.start()
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
ready.set()
thread.join()
"""
"""A process whose main thread hardly ever runs; the kernel delivers signals of the process to that thread."""


@pytest.fixture(autouse=True)
def _off_again(clean_environment: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    arm(None)


def places() -> Counter[str]:
    """Every place in the code that passes a failpoint, by the failpoint's name."""
    calls = [
        node
        for folder in ("api", "core", "workers")
        for path in (HOME / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hit"
    ]
    return Counter(node.args[0].value for node in calls if isinstance(node.args[0], ast.Constant))


def struck(times: int) -> int:
    """The number of times that a failpoint raises in this number of passes."""
    count = 0
    for _ in range(times):
        try:
            hit(POINT)
        except StruckError:
            count += 1
    return count


# --- their places ---


def test_every_listed_failpoint_is_passed_in_exactly_one_place() -> None:
    assert places() == Counter(dict.fromkeys(POINTS, 1))


# --- their effects ---


def test_they_are_off_unless_they_are_switched_on() -> None:
    assert armed() is None
    for point in POINTS:
        hit(point)


@pytest.mark.parametrize(("said", "ended_by"), [("exit", signal.SIGKILL), ("stop", signal.SIGSTOP)])
def test_a_process_kills_or_stops_itself(said: str, ended_by: signal.Signals) -> None:
    script = f"from core import failpoints as f; f.arm('{POINT}={said}'); f.hit('{POINT}')"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=HOME)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    if said == "stop":
        assert os.WIFSTOPPED(status)
        assert os.WSTOPSIG(status) == ended_by
        process.kill()
        process.wait()
    else:
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == -ended_by


def test_a_thread_that_stops_its_process_goes_no_further_even_if_the_others_stop_late() -> None:
    process = subprocess.Popen([sys.executable, "-c", BESIDE_A_SLOW_THREAD], cwd=HOME, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        os.set_blocking(process.stdout.fileno(), False)
        assert process.stdout.read() is None, "it went past the failpoint"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_failpoint_can_delay() -> None:
    arm(f"{POINT}=delay:50")
    started = time.perf_counter()
    hit(POINT)
    assert time.perf_counter() - started >= 0.05


@pytest.mark.parametrize(
    ("said", "fewest", "most"),
    [("raise", 100, 100), ("raise:3", 3, 3), ("raise:0", 0, 0), ("raise:0.0", 0, 0), ("raise:0.5", 20, 80)],
)
def test_the_frequency_is_a_count_or_a_chance(said: str, fewest: int, most: int) -> None:
    arm(f"{POINT}={said}")
    assert fewest <= struck(100) <= most


def test_a_failpoint_does_not_affect_another() -> None:
    arm("settle.before_ack=raise")
    assert struck(1) == 0


def test_the_clock_is_shifted_by_the_given_time() -> None:
    before = now_us()
    arm(f"{CLOCK}=shift:-3600000")
    assert -3600 <= (now_us() - before) / 1e6 < -3590


def test_a_file_is_read_again_whenever_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "failpoints"
    arm(f"@{file}")
    assert struck(1) == 0, "the file does not exist yet"
    file.write_text(f"{POINT}=raise\n")
    assert struck(2) == 2
    (tmp_path / "next").write_text(f"{POINT}=raise:0\n")
    (tmp_path / "next").replace(file)
    assert struck(1) == 0
    file.unlink()
    assert struck(1) == 0


def test_several_failpoints_are_separated_by_commas_or_lines() -> None:
    assert parse("settle.before_ack=exit:0.01, settle.after_commit=delay:200:3\naccept.before_write=stop,").keys() == {
        "settle.before_ack",
        "settle.after_commit",
        "accept.before_write",
    }


# --- how they are turned on ---


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("settle.befor_commit=exit", "settle.befor_commit is not a failpoint"),
        (POINT, "'' is not an action that is possible at settle.before_commit"),
        (f"{POINT}=explode", "'explode' is not an action that is possible at settle.before_commit"),
        (f"{POINT}=shift:5", "'shift' is not an action that is possible at settle.before_commit"),
        ("clock=exit", "'exit' is not an action that is possible at clock"),
        (f"{POINT}=delay", f"{POINT}=delay: a number is missing or invalid"),
        (f"{POINT}=delay:long", f"{POINT}=delay:long: a number is missing or invalid"),
        (f"{POINT}=exit:1:2", f"{POINT}=exit:1:2: too many numbers"),
    ],
)
def test_an_invalid_failpoint_stops_the_start_with_one_line(
    monkeypatch: pytest.MonkeyPatch, text: str, problem: str
) -> None:
    monkeypatch.setenv("GIRO_FAILPOINTS", text)
    assert complaint() == f"GIRO_FAILPOINTS: {problem}"


def test_the_environment_turns_them_on_and_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIRO_FAILPOINTS", f"{POINT}=raise:1")
    load_settings()
    assert struck(2) == 1
    monkeypatch.delenv("GIRO_FAILPOINTS")
    load_settings()
    assert armed() is None


def test_a_settings_file_cannot_turn_one_on() -> None:
    Path(".env").write_text(f"GIRO_FAILPOINTS={POINT}=exit\n")
    with pytest.raises(SettingsError, match="GIRO_FAILPOINTS is not a setting"):
        load_settings()
    assert armed() is None


def test_every_process_warns_that_a_failpoint_is_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GIRO_FAILPOINTS", f"{POINT}=raise")
    configure_logging(load_settings(), process="settlement")
    line = json.loads(capsys.readouterr().err)
    said = {"event": "failpoints_on", "failpoints": f"{POINT}=raise", "level": "critical", "process": "settlement"}
    assert line.items() >= said.items()


def test_no_process_mentions_failpoints_that_are_off(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(load_settings(), process="settlement")
    assert capsys.readouterr().err == ""
    assert failpoints.armed() is None
