"""The turnstile and the settlement lock, between threads and between real processes, one of them killed."""

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from core.files.locks import FileLock
from core.storage.sqlite.turnstile import Turnstile, settlement_lock
from tests.waiting import eventually

HOLDER = """
import sys
from pathlib import Path
from core.files.locks import FileLock
from core.storage.sqlite.turnstile import Turnstile, settlement_lock
path = Path(sys.argv[2])
if sys.argv[1] == "settlement":
    settlement_lock(path).acquire()
    print("held", flush=True)
    sys.stdin.read()
else:
    with Turnstile(path).turn():
        print("held", flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bank.db"


@pytest.fixture
def opened(path: Path) -> Iterator[Callable[[], Turnstile]]:
    """Open turnstiles of one database as different processes would, each with its own descriptors."""
    made: list[Turnstile] = []

    def another() -> Turnstile:
        made.append(Turnstile(path))
        return made[-1]

    yield another
    for turnstile in made:
        turnstile.close()


@contextmanager
def process_that_holds(what: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that holds a lock until its standard input ends, or until it is killed."""
    command = [sys.executable, "-c", HOLDER, what, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.stdin.close()


@contextmanager
def running(work: Callable[[], None]) -> Iterator[threading.Thread]:
    thread = threading.Thread(target=work)
    thread.start()
    yield thread
    thread.join(timeout=30)
    assert not thread.is_alive()


def test_a_waiting_writer_goes_before_one_that_just_had_its_turn(opened: Callable[[], Turnstile]) -> None:
    first, second = opened(), opened()
    order: list[str] = []

    def wait_and_go() -> None:
        with second.turn():
            order.append("second")

    with first.turn():
        order.append("first")
        thread = threading.Thread(target=wait_and_go)
        thread.start()
        eventually(first.others_wait)
    with first.turn():
        order.append("first again")
    thread.join(timeout=30)
    assert order == ["first", "second", "first again"]


def waits() -> tuple[float, float]:
    """The number of writers that have had their turn, and the seconds that all of them waited for it."""
    name = "giro_lock_wait_duration_seconds"
    return REGISTRY.get_sample_value(f"{name}_count") or 0.0, REGISTRY.get_sample_value(f"{name}_sum") or 0.0


def test_the_wait_for_a_turn_is_timed_without_the_turn_itself(opened: Callable[[], Turnstile]) -> None:
    first, second = opened(), opened()
    count, seconds = waits()

    def wait_and_go() -> None:
        with second.turn():
            pass

    held_from = time.perf_counter()
    with first.turn():
        thread = threading.Thread(target=wait_and_go)
        thread.start()
        eventually(first.others_wait)
        eventually(lambda: time.perf_counter() > held_from + 0.3)
        assert waits()[0] == count + 1, "the second has had no turn yet"
        assert waits()[1] - seconds < 0.1, "the first did not wait"
    thread.join(timeout=30)
    assert waits()[0] == count + 2
    assert 0.1 < waits()[1] - seconds <= time.perf_counter() - held_from


def test_others_wait_is_true_only_while_a_writer_waits(opened: Callable[[], Turnstile]) -> None:
    first, second = opened(), opened()
    with first.turn():
        assert not first.others_wait()

    def wait_and_go() -> None:
        with second.turn():
            pass

    with first.turn():
        thread = threading.Thread(target=wait_and_go)
        thread.start()
        eventually(first.others_wait)
    thread.join(timeout=30)
    with first.turn():
        assert not first.others_wait()


def test_others_wait_leaves_the_queue_unchanged(opened: Callable[[], Turnstile]) -> None:
    first, second = opened(), opened()
    with first.turn():
        assert not first.others_wait()
        assert not second.others_wait()


def test_two_writers_never_have_the_turn_at_once(opened: Callable[[], Turnstile]) -> None:
    shared = opened()
    turnstiles = [shared, shared, opened(), opened()]  # two threads of one process, and two more processes
    inside, most, turns = 0, 0, 0

    def write(turnstile: Turnstile) -> None:
        nonlocal inside, most, turns
        for _ in range(50):
            with turnstile.turn():
                inside += 1
                most, turns = max(most, inside), turns + 1
                inside -= 1

    threads = [threading.Thread(target=write, args=(turnstile,)) for turnstile in turnstiles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert (most, turns) == (1, 200)


def test_a_thread_waits_for_another_thread_of_its_process(opened: Callable[[], Turnstile]) -> None:
    turnstile = opened()
    entered = threading.Event()

    def wait_and_go() -> None:
        with turnstile.turn():
            entered.set()

    with turnstile.turn():
        thread = threading.Thread(target=wait_and_go)
        thread.start()
        assert not entered.wait(timeout=0.1), "they share the descriptors, so flock alone does not separate them"
    assert entered.wait(timeout=30)
    thread.join(timeout=30)


def test_an_exception_ends_the_turn(opened: Callable[[], Turnstile]) -> None:
    first, second = opened(), opened()
    with pytest.raises(ZeroDivisionError), first.turn():
        raise ZeroDivisionError
    with second.turn():
        pass


@pytest.mark.processes
def test_another_process_keeps_its_turn_until_it_ends(path: Path, opened: Callable[[], Turnstile]) -> None:
    lock = FileLock(path.with_name("bank.db.write.lock"))
    with process_that_holds("turn", path):
        assert not lock.try_acquire()
    assert lock.try_acquire()
    lock.close()


@pytest.mark.processes
def test_the_turn_of_a_killed_process_goes_to_the_waiting_writer(path: Path, opened: Callable[[], Turnstile]) -> None:
    turnstile = opened()
    taken = threading.Event()

    def wait_and_go() -> None:
        with turnstile.turn():
            taken.set()

    with process_that_holds("turn", path) as process, running(wait_and_go):
        eventually(lambda: is_queued(path))
        assert not taken.is_set()
        os.kill(process.pid, signal.SIGKILL)
        assert taken.wait(timeout=30)


def is_queued(path: Path) -> bool:
    """Check the queue as a third process would."""
    queue = FileLock(path.with_name("bank.db.queue.lock"))
    taken = queue.try_acquire()
    queue.close()
    return not taken


@pytest.mark.processes
def test_only_one_settlement_worker_runs_until_it_is_killed(path: Path) -> None:
    lock = settlement_lock(path)
    with process_that_holds("settlement", path) as process:
        assert not lock.try_acquire()
        os.kill(process.pid, signal.SIGKILL)
        assert eventually(lock.try_acquire)
    lock.close()


def test_the_settlement_lock_waits_for_its_holder(path: Path) -> None:
    holder, standby = settlement_lock(path), settlement_lock(path)
    holder.acquire()
    took_over = threading.Event()

    def stand_by() -> None:
        standby.acquire()
        took_over.set()

    with running(stand_by):
        assert not took_over.wait(timeout=0.05)
        holder.release()
        assert took_over.wait(timeout=30)
    holder.close()
    standby.close()


def test_the_settlement_lock_does_not_block_writers(path: Path, opened: Callable[[], Turnstile]) -> None:
    lock = settlement_lock(path)
    lock.acquire()
    with opened().turn():
        pass
    lock.close()


def test_lock_files_are_separate_from_the_database_and_only_the_owner_can_open_them(
    path: Path, opened: Callable[[], Turnstile]
) -> None:
    with opened().turn():
        settlement_lock(path).close()
    made = sorted(path.parent.iterdir())
    assert [item.name for item in made] == [
        "bank.db.queue.lock",
        "bank.db.settlement.lock",
        "bank.db.write.lock",
    ]
    assert {stat.S_IMODE(item.stat().st_mode) for item in made} == {0o600}
