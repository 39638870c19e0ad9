"""Starting and stopping the whole service: nothing is left behind, and accepted transfers settle later."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from tests.flows.stack import Stack, is_alive
from tests.waiting import eventually

pytestmark = pytest.mark.whole_service

MakeStack = Callable[..., Stack]


def test_transfers_accepted_before_a_stop_settle_after_the_next_start(new_stack: MakeStack) -> None:
    stack = new_stack().start()
    ada = stack.sign_up()
    payer, payee = ada.open_account(funds=500), ada.open_account()
    stack.kill("settlement", signal.SIGSTOP)
    answer = ada.submit(payer, payee)
    assert ada.status(answer.json()["id"]) == "pending"
    assert stack.stop() == 0
    stack.start()
    assert ada.poll_to_end(answer.json()["id"]) == "completed"


def test_sigterm_leaves_no_process_no_socket_and_no_error(new_stack: MakeStack) -> None:
    stack = new_stack().start()
    pids = stack.pids()
    assert len(pids) == 5
    assert stack.stop() == 0
    assert [line for line in stack.log_text("up").splitlines() if '"level": "info"' not in line] == []
    assert not [pid for pid in pids if is_alive(pid)]
    assert not [path for path in stack.data.rglob("*") if path.is_socket()]
    assert [path.name for path in (stack.data / "run").iterdir()] == ["reserve"]


def test_sigkill_of_the_supervisor_leaves_no_orphans_and_the_next_start_works(new_stack: MakeStack) -> None:
    stack = new_stack().start()
    pids = stack.pids()
    stack.supervisor.kill()
    stack.supervisor.wait()
    eventually(lambda: not [pid for pid in pids if is_alive(pid)])
    stack.start()
    assert stack.stop() == 0


def test_waiting_client_is_answered_when_the_service_stops(new_stack: MakeStack) -> None:
    stack = new_stack().start()
    ada = stack.sign_up()
    payer, payee = ada.open_account(funds=500), ada.open_account()
    stack.kill("settlement", signal.SIGSTOP)
    answers: list[httpx2.Response] = []
    waiting = threading.Thread(target=lambda: answers.append(ada.submit(payer, payee, Prefer="wait=30")))
    waiting.start()
    eventually(lambda: ada.get("/transfers?status=pending").json()["items"])
    assert stack.stop() == 0
    waiting.join(5)
    assert [answer.status_code for answer in answers] == [202]


def test_second_up_on_the_same_data_names_the_holder(stack: Stack) -> None:
    second = stack.giro("up")
    assert second.returncode == 3
    assert f"process {stack.supervisor.pid}" in second.stderr
    assert stack.url in second.stderr
    assert f"process {stack.supervisor.pid}" in stack.giro("status").stdout


def test_invalid_setting_stops_the_start_with_one_clear_line(new_stack: MakeStack) -> None:
    started = new_stack(port="eighty").giro("up")
    assert started.returncode == 2
    assert started.stderr.strip() == (
        "giro: GIRO_PORT: Input should be a valid integer, unable to parse string as an integer"
    )


def test_worker_without_a_database_says_what_to_do(new_stack: MakeStack) -> None:
    started = new_stack().giro("worker")
    assert started.returncode == 2
    assert "giro migrate" in started.stderr


def test_several_copies_run_side_by_side(stack: Stack, new_stack: MakeStack) -> None:
    other = new_stack().start()
    assert stack.sign_up().open_account(funds=5)
    assert other.stop() == 0
    assert stack.sign_up().open_account(funds=5)


def test_secrets_and_database_are_private(stack: Stack) -> None:
    files = [path for path in stack.data.rglob("*") if path.is_file()]
    assert files
    assert {path.name: oct(path.stat().st_mode & 0o077) for path in files} == {path.name: "0o0" for path in files}


def test_demo_ends_with_a_passed_verification_even_if_the_worker_is_killed(
    new_stack: MakeStack, tmp_path: Path
) -> None:
    stack = new_stack(measured=True)
    demo = stack.run("demo", "--transfers", "60")
    settlement = eventually(lambda: _child_of(demo.pid, "settlement"), 60)
    eventually(lambda: "signed up" in stack.output("demo"), 60)
    os.kill(settlement, signal.SIGKILL)
    assert demo.wait(120) == 0, stack.output("demo")
    assert "every rule holds" in stack.output("demo")


def _child_of(ancestor: int, word: str) -> int | None:
    """Find a descendant of a process by a word on its command line."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    for pid in parents:
        line = _command_line(pid)
        if word in line and _descends(pid, ancestor, parents):
            return pid
    return None


def _command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def _descends(pid: int, ancestor: int, parents: dict[int, int]) -> bool:
    while pid in parents:
        if pid == ancestor:
            return True
        pid = parents[pid]
    return False
