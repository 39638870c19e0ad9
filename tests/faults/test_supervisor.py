"""The supervisor, in its own process, with small children that each misbehave in one way.

Tests read its actions from its log, and the living processes from the process table.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from core.processes import heartbeats
from core.processes.child import STARTING_FACTOR
from core.processes.database_hold import holder
from core.settings import load_settings
from tests.flows.stack import is_alive

pytestmark = pytest.mark.long

PATIENCE_SECONDS = 20.0
SILENT_SECONDS = 2

MAIN = """
import json, sys
from core.settings import load_settings
from core.processes.parts import service_children
from core.processes.run import run
from core.processes.child import Child

if __name__ == "__main__":
    settings = load_settings()
    children = [Child(**child) for child in json.loads(sys.argv[2])]
    embedded_queue = service_children(settings)[:1] if sys.argv[1] == "with-queue" else []
    sys.exit(run(settings, embedded_queue + children))
"""

API = """
import socket, sys
port, refusals = map(int, sys.argv[1:])
server = socket.create_server(("127.0.0.1", port))
while True:
    client = server.accept()[0]
    assert client.recv(4096).startswith(b"GET /health/ready HTTP/1.1")
    status = b"503 Not yet" if refusals > 0 else b"200 OK"
    refusals -= 1
    print("answers", status.decode(), file=sys.stderr, flush=True)
    client.sendall(b"HTTP/1.1 " + status + b"\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
    client.close()
"""
SLEEPS = "import signal\nwhile True: signal.pause()"
IGNORES_SIGTERM = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: signal.pause()"
OBEYS_SLOWLY = """
import signal, sys, time
def leave(number, frame):
    time.sleep(float(sys.argv[1]))
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print("waits for SIGTERM", file=sys.stderr, flush=True)
while True: signal.pause()
"""
BEATS = """
import os, pathlib, sys, time
while True:
    pathlib.Path(sys.argv[1].replace("PID", str(os.getpid()))).touch()
    time.sleep(0.1)
"""
FORKS = """
import os, pathlib, signal, sys
pid = os.fork()
if pid: pathlib.Path(sys.argv[1]).write_text(f"{pid} ")
while True: signal.pause()
"""
DIES_AT_ONCE = "import sys; sys.exit(7)"
NEEDS_THE_QUEUE = """
import os, socket
client = socket.socket(socket.AF_UNIX)
client.connect(os.environ["REDIS_URL"].removeprefix("unix://"))
client.sendall(b"PING\\r\\n")
assert client.recv(100) == b"+PONG\\r\\n"
import signal, sys
print("queue answers", file=sys.stderr, flush=True)
while True: signal.pause()
"""


def child(name: str, script: str, *arguments: object, **spec: Any) -> dict[str, Any]:
    """Keyword arguments of Child for a small Python script that starts fast."""
    command = [sys.executable, "-S", "-E", "-c", script, *map(str, arguments)]
    return {"name": name, "command": command, "stop_order": 1, "grace_seconds": 5, "has_heartbeat": False} | spec


def poll[T](look: Callable[[], T], what: str) -> T:
    """Repeat a check until its result is true, and return that result."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if seen := look():
            return seen
        time.sleep(0.01)
    pytest.fail(f"waited {PATIENCE_SECONDS:.0f} s without success: {what}")


class Supervised:
    """A running supervisor, with its output and log."""

    def __init__(self, folder: Path, arguments: list[str], environment: dict[str, str], **how: Any) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        (folder / "main.py").write_text(MAIN)
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            command = [sys.executable, str(folder / "main.py"), *arguments]
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=err, **how)

    @property
    def out(self) -> str:
        return (self.folder / "out").read_text()

    @property
    def err(self) -> str:
        return (self.folder / "err").read_text()

    def events(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """Return the log lines so far with this event and these fields."""
        whole = [line for line in self.err.splitlines(keepends=True) if line.startswith("{") and line.endswith("}\n")]
        logged: list[dict[str, Any]] = [json.loads(line) for line in whole]
        return [line for line in logged if line["event"] == event and fields.items() <= line.items()]

    def wait_for(self, event: str, count: int = 1, **fields: object) -> dict[str, Any]:
        """Wait until this event was logged `count` times, and return the last line."""

        def look() -> list[dict[str, Any]]:
            seen = self.events(event, **fields)
            return seen if len(seen) >= count else []

        return poll(look, f"{count} of {event} {fields} in:\n{self.err}")[count - 1]

    def wait_until_ready(self) -> None:
        self.wait_for("service_ready")

    def pid_of(self, name: str, start: int = 1) -> int:
        """Return the pid of a child after its first, second … start."""
        return int(self.wait_for("child_started", start, child=name)["pid"])

    def pids(self) -> list[int]:
        return [started["pid"] for started in self.events("child_started")]

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def exit_status(self) -> int:
        return self.process.wait(PATIENCE_SECONDS)

    def stop(self) -> int:
        self.send(signal.SIGTERM)
        return self.exit_status()


class House:
    """A data folder, a port, and the supervisors that are started on them."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port: int = server.getsockname()[1]
        self.folder = folder
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("GIRO_")} | {
            "GIRO_DATA_DIR": str(folder / "data"),
            "GIRO_PORT": str(self.port),
            "DATABASE_URL": "",
            "REDIS_URL": "",
        }
        self.run_dir = folder / "data" / "run"
        self.started: list[Supervised] = []

    def supervise(self, *children: dict[str, Any], queue: str = "without-queue", **how: Any) -> Supervised:
        """Start a supervisor with these children."""
        folder = self.folder / f"supervisor-{len(self.started)}"
        supervised = Supervised(folder, [queue, json.dumps(children)], self.environment, **how)
        self.started.append(supervised)
        return supervised

    def supervise_ready(
        self, *children: dict[str, Any], refusals: int = 0, api_grace_seconds: float = 5, **how: Any
    ) -> Supervised:
        """Start a supervisor with these children and an API, and wait until the API is ready."""
        api = child("api", API, self.port, refusals, stop_order=0, grace_seconds=api_grace_seconds)
        supervised = self.supervise(*children, api, **how)
        supervised.wait_until_ready()
        return supervised

    def heartbeat_of(self, name: str) -> Path:
        """Return the heartbeat file of a child, with PID in the place of its process id."""
        own = heartbeats.path_of(self.run_dir, name)
        return own.with_name(own.name.replace(f".{os.getpid()}.", ".PID."))

    def close(self) -> None:
        for supervised in self.started:
            supervised.process.kill()
            supervised.process.wait()
            for pid in supervised.pids():
                # No child is left unless the test failed.
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL) if is_alive(pid) else None


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.close()


def logged_at(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp()


# Restarting


def test_dead_child_is_noticed_at_once_and_restarted_after_a_growing_delay(house: House) -> None:
    supervised = house.supervise_ready(child("jobs", SLEEPS))
    for number, delay in enumerate((0.2, 0.4, 0.8), start=1):
        pid = supervised.pid_of("jobs", number)
        killed_at = time.time()
        os.kill(pid, signal.SIGKILL)
        died = supervised.wait_for("child_died", number, child="jobs")
        again = supervised.wait_for("child_started", number + 1, child="jobs")
        assert (died["signal"], died["restart_in_seconds"]) == ("SIGKILL", delay)
        assert logged_at(died) - killed_at < 0.5
        assert delay - 0.01 <= logged_at(again) - logged_at(died) < delay + 0.5
    assert len(supervised.events("child_started", child="api")) == 1


def test_forks_of_a_dead_child_die_with_it(house: House, tmp_path: Path) -> None:
    supervised = house.supervise_ready(child("jobs", FORKS, tmp_path / "fork"))
    fork = int(poll(lambda: (tmp_path / "fork").exists() and (tmp_path / "fork").read_text(), "the fork's pid"))
    assert is_alive(fork)
    os.kill(supervised.pid_of("jobs"), signal.SIGKILL)
    poll(lambda: not is_alive(fork), "the death of the fork")


def test_supervisor_exits_with_one_clear_line_if_a_child_dies_at_every_start(house: House) -> None:
    supervised = house.supervise(child("settlement", SLEEPS), child("api", DIES_AT_ONCE))
    assert supervised.exit_status() == 1
    said = [line for line in supervised.err.splitlines() if not line.startswith("{")]
    assert said == ["giro: api died 4 times before the service was ready; the log says how"]
    deaths = supervised.events("child_died", child="api")
    assert [death["exit_status"] for death in deaths] == [7, 7, 7, 7]
    assert not any(map(is_alive, supervised.pids()))


def test_missing_program_counts_as_a_death(house: House) -> None:
    absent = child("settlement", "") | {"command": ["/no/such/program"]}
    supervised = house.supervise(absent, child("api", SLEEPS))
    assert supervised.exit_status() == 1
    assert "No such file" in supervised.events("child_died", child="settlement")[0]["error"]


# Silence


def test_silent_child_is_restarted_and_beating_child_is_not(house: House) -> None:
    house.environment["GIRO_SILENT_SECONDS"] = str(SILENT_SECONDS)
    beating = [child(name, BEATS, house.heartbeat_of(name), has_heartbeat=True) for name in ("jobs", "scheduler")]
    supervised = house.supervise_ready(*beating)
    poll(lambda: "jobs" in heartbeats.here(house.run_dir), "a heartbeat")
    os.kill(supervised.pid_of("jobs"), signal.SIGSTOP)
    silent = supervised.wait_for("child_silent")
    assert silent["child"] == "jobs"
    assert SILENT_SECONDS < silent["seconds"] < SILENT_SECONDS + 2
    supervised.wait_for("child_died", child="jobs", signal="SIGKILL")
    assert is_alive(supervised.pid_of("jobs", 2))
    for left_alone in ("scheduler", "api"):
        assert len(supervised.events("child_started", child=left_alone)) == 1
        assert not supervised.events("child_silent", child=left_alone)


def test_child_without_any_heartbeat_is_silent_after_a_longer_time(house: House) -> None:
    house.environment["GIRO_SILENT_SECONDS"] = str(SILENT_SECONDS)
    supervised = house.supervise_ready(child("scheduler", SLEEPS, has_heartbeat=True))
    silent = supervised.wait_for("child_silent", child="scheduler")
    assert silent["seconds"] > STARTING_FACTOR * SILENT_SECONDS


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_stops_children_in_order_and_leaves_nothing(house: House, number: signal.Signals) -> None:
    supervised = house.supervise_ready(
        # The slowest stops first: if all were stopped at once, they would end in the opposite order.
        child("settlement", OBEYS_SLOWLY, 0.0, stop_order=3),
        child("jobs", BEATS, house.heartbeat_of("jobs"), stop_order=2, has_heartbeat=True),
        child("scheduler", OBEYS_SLOWLY, 0.3, stop_order=1),
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # nohup makes the tests ignore it
    )
    poll(lambda: supervised.err.count("waits for SIGTERM") == 2, "children that wait")
    poll(lambda: "jobs" in heartbeats.here(house.run_dir), "a heartbeat")
    supervised.send(number)
    assert supervised.exit_status() == 0
    assert [line["child"] for line in supervised.events("child_stopped")] == ["api", "scheduler", "jobs", "settlement"]
    assert not supervised.events("child_killed")
    assert not supervised.events("child_died")
    assert not any(map(is_alive, supervised.pids()))
    assert {path.name for path in house.run_dir.iterdir()} <= {"reserve"}
    assert house.supervise_ready().stop() == 0, "the lock and the port must be free"


def test_child_that_ignores_sigterm_is_killed_after_its_own_and_all_unused_grace(house: House) -> None:
    supervised = house.supervise_ready(
        child("jobs", IGNORES_SIGTERM, stop_order=2, grace_seconds=0.25),
        child("scheduler", SLEEPS, grace_seconds=0.5),
        api_grace_seconds=0.25,
    )
    assert supervised.stop() == 0
    (stopped,) = supervised.events("child_stopped", child="jobs")
    (stopping,) = supervised.events("service_stopping")
    assert stopped["signal"] == "SIGKILL"
    assert 1.0 <= logged_at(stopped) - logged_at(stopping) < 2.0
    assert not is_alive(supervised.pid_of("jobs"))


def test_shutdown_takes_at_most_the_sum_of_all_graces(house: House) -> None:
    names = ("scheduler", "jobs", "settlement")
    stubborn = [child(name, IGNORES_SIGTERM, stop_order=i, grace_seconds=0.25) for i, name in enumerate(names, 1)]
    supervised = house.supervise_ready(*stubborn, api_grace_seconds=0.25)
    assert supervised.stop() == 0
    took = logged_at(supervised.events("service_stopped")[0]) - logged_at(supervised.events("service_stopping")[0])
    assert 1.0 <= took < 2.0
    assert len(supervised.events("child_killed")) == 3
    assert not any(map(is_alive, supervised.pids()))


def test_children_with_the_same_stop_order_stop_together(house: House) -> None:
    slow = [child(name, OBEYS_SLOWLY, 1.0, stop_order=0) for name in ("api-2", "api-3")]
    supervised = house.supervise_ready(*slow)
    poll(lambda: supervised.err.count("waits for SIGTERM") == 2, "children that wait")
    assert supervised.stop() == 0
    took = logged_at(supervised.events("service_stopped")[0]) - logged_at(supervised.events("service_stopping")[0])
    assert 1.0 <= took < 1.9
    assert not supervised.events("child_killed")


def test_second_signal_kills_everything_at_once(house: House) -> None:
    supervised = house.supervise_ready(child("jobs", IGNORES_SIGTERM, grace_seconds=3600))
    supervised.send(signal.SIGTERM)
    supervised.wait_for("child_stopped", child="api")

    def insist() -> bool:
        supervised.send(signal.SIGTERM)
        return supervised.process.poll() is not None

    poll(insist, "the end")
    assert supervised.exit_status() == 0
    assert supervised.events("child_stopped", child="jobs", signal="SIGKILL")
    assert not any(map(is_alive, supervised.pids()))


def test_ctrl_c_reaches_only_the_supervisor(house: House) -> None:
    supervised = house.supervise_ready(child("jobs", OBEYS_SLOWLY, 0), start_new_session=True)
    poll(lambda: "waits for SIGTERM" in supervised.err, "a child that waits")
    os.killpg(supervised.process.pid, signal.SIGINT)
    assert supervised.exit_status() == 0
    assert supervised.events("child_stopped", child="jobs", exit_status=0)


def test_two_simultaneous_signals_count_as_one(house: House) -> None:
    supervised = house.supervise_ready(child("jobs", OBEYS_SLOWLY, 0.5))
    poll(lambda: "waits for SIGTERM" in supervised.err, "a child that waits")
    supervised.send(signal.SIGINT)
    supervised.send(signal.SIGTERM)
    assert supervised.exit_status() == 0
    assert supervised.events("child_stopped", child="jobs", exit_status=0)


def test_stopped_child_is_continued_so_that_it_can_exit(house: House) -> None:
    supervised = house.supervise_ready(child("jobs", OBEYS_SLOWLY, 0))
    poll(lambda: "waits for SIGTERM" in supervised.err, "a child that waits")
    os.kill(supervised.pid_of("jobs"), signal.SIGSTOP)
    assert supervised.stop() == 0
    assert supervised.events("child_stopped", child="jobs", exit_status=0)


def test_supervisor_can_be_stopped_before_it_is_ready(house: House) -> None:
    supervised = house.supervise(child("api", SLEEPS))
    supervised.pid_of("api")
    assert supervised.stop() == 0
    assert supervised.out == ""
    assert not any(map(is_alive, supervised.pids()))


def test_closed_terminal_stops_nothing_under_nohup(house: House) -> None:
    supervised = house.supervise_ready(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    supervised.send(signal.SIGHUP)
    assert supervised.stop() == 0
    (stopping,) = supervised.events("service_stopping")
    assert stopping["signal"] == "SIGTERM"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_killed_supervisor_leaves_no_orphans_and_frees_the_database(house: House) -> None:
    queue_and_children = [child("jobs", IGNORES_SIGTERM), child("scheduler", OBEYS_SLOWLY, 0)]
    supervised = house.supervise_ready(*queue_and_children, queue="with-queue")
    pids = supervised.pids()
    assert len(pids) == 4
    assert all(map(is_alive, pids))
    supervised.send(signal.SIGKILL)
    supervised.exit_status()
    poll(lambda: not any(map(is_alive, pids)), "the death of all children, Valkey included")
    assert house.supervise_ready(queue="with-queue").stop() == 0


# Starting


def test_second_supervisor_names_the_holder_of_the_database(house: House) -> None:
    first = house.supervise_ready()
    second = house.supervise(child("api", SLEEPS))
    assert second.exit_status() == 3
    (line,) = second.err.splitlines()
    database = house.folder / "data" / "banking.db"
    url = f"http://127.0.0.1:{house.port}"
    by = f"process {first.process.pid} on {heartbeats.HOST}, `giro up` at {url}, since 2"
    assert line.startswith(f"giro: {database} is held by another Giro: {by}")
    assert second.out == ""
    assert first.process.poll() is None
    assert not first.events("child_died")


def test_holder_of_the_database_can_be_read(house: House) -> None:
    settings = load_settings(data_dir=house.folder / "data", database_url="")
    assert holder(settings) is None
    assert not (house.folder / "data").exists()
    supervised = house.supervise_ready()
    said = holder(settings)
    assert said is not None
    here = f"process {supervised.process.pid} on {heartbeats.HOST}"
    assert said.startswith(f"{here}, `giro up` at http://127.0.0.1:{house.port}, since 2")
    supervised.send(signal.SIGKILL)
    supervised.exit_status()
    assert holder(settings) is None, "a killed process holds nothing, although its name is still in the file"


def test_files_of_supervisor_and_children_are_private(house: House, tmp_path: Path) -> None:
    house.supervise_ready(child("jobs", BEATS, tmp_path / "written"))
    poll((tmp_path / "written").exists, "a file")
    lock = house.folder / "data" / "banking.db.supervisor.lock"
    for path in (tmp_path / "written", lock, lock.parent, house.run_dir):
        assert path.stat().st_mode & 0o077 == 0


def test_used_port_gives_one_clear_line(house: House) -> None:
    with socket.create_server(("127.0.0.1", house.port)):
        supervised = house.supervise(child("api", SLEEPS))
        assert supervised.exit_status() == 2
    assert supervised.err == f"giro: GIRO_PORT: cannot listen on 127.0.0.1:{house.port} (Address already in use)\n"
    assert supervised.out == ""


def test_service_is_ready_only_when_the_api_is(house: House) -> None:
    supervised = house.supervise_ready(refusals=3)
    assert supervised.err.count("answers 503") == 3
    assert supervised.err.count("answers 200") == 1


def test_banner_lists_all_addresses(house: House) -> None:
    supervised = house.supervise_ready()
    banner = poll(lambda: supervised.out, "the banner")
    for told in (f"http://127.0.0.1:{house.port}/docs", "9102 (settlement)", str(house.folder / "data"), "Ctrl-C"):
        assert told in banner


def test_service_becomes_ready_without_an_embedded_queue_that_dies_at_every_start(house: House) -> None:
    (house.run_dir / "valkey.sock").mkdir(parents=True)  # a folder in the place of its socket
    (house.run_dir / "valkey.sock" / "kept").touch()
    supervised = house.supervise_ready(child("jobs", SLEEPS), queue="with-queue")
    supervised.wait_for("child_died", 5, child="valkey")
    assert supervised.stop() == 0


def test_embedded_queue_starts_before_the_others_and_is_gone_at_the_end(house: House) -> None:
    house.run_dir.mkdir(parents=True)
    queue_socket = house.run_dir / "valkey.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(queue_socket))
    supervised = house.supervise_ready(child("jobs", NEEDS_THE_QUEUE), queue="with-queue")
    poll(lambda: "queue answers" in supervised.err, "an answer of the queue")
    assert queue_socket.stat().st_mode & 0o777 == 0o700
    assert supervised.stop() == 0
    assert not supervised.events("child_died")
    assert (
        supervised.events("child_stopped")[-1] | {"child": "valkey", "exit_status": 0}
        == (supervised.events("child_stopped")[-1])
    )
    assert {path.name for path in house.run_dir.iterdir()} <= {"reserve"}
