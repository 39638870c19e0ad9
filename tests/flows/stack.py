"""The whole service as a user runs it: `giro up` in real processes, with a separate folder and port."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2

from core.processes.parts import PROCESSES
from tests.waiting import eventually

PASSWORD = "correct horse battery"
START_SECONDS = 60
STOP_SECONDS = 15


_given: set[int] = set()


def free_port() -> int:
    """Return an unused port, a different one each time: the kernel may return the same port twice before it is used."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port: int = server.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


def is_alive(pid: int) -> bool:
    """True while a process runs. A zombie counts as dead."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


class Stack:
    """One service: its settings and processes. It ends the processes that it started, by pid."""

    def __init__(self, folder: Path, *, measured: bool = True, scraped: bool = False, **settings: object) -> None:
        """`measured` False: its processes do not count for the coverage, which would double their time to start.

        `scraped` True: each process serves its metrics, on an unused port.
        """
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.metrics_ports = {name: free_port() if scraped else 0 for name in PROCESSES}
        metrics = {f"metrics_port_{name}": port for name, port in self.metrics_ports.items()}
        own = {"data_dir": self.data, "port": self.port, "password_hash_rounds": 4, **metrics, **settings}
        left_out = ("GIRO_",) if measured else ("GIRO_", "COVERAGE_", "COV_CORE_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        unset = dict.fromkeys(("DATABASE_URL", "REDIS_URL", "JWT_SECRET", "SENTRY_DSN"), "")
        self.environment = {**inherited, **unset, **{f"GIRO_{name.upper()}": str(own[name]) for name in own}}
        self.program: Path | None = None
        """Folder of another version of the program to run from now on; None: this one."""
        self.starts = 0
        self.processes: list[subprocess.Popen[bytes]] = []
        self.client = httpx2.Client(base_url=self.url, trust_env=False, timeout=40)

    # --- processes ---

    def start(self) -> "Stack":
        """Run `giro up` and wait until it says that it is ready."""
        self.supervisor = self.run("up")
        self.starts += 1
        eventually(lambda: self.supervisor.poll() is not None or self._said_ready() == self.starts, START_SECONDS)
        assert self.supervisor.poll() is None, self.log_text("up")[-3000:]
        return self

    def _said_ready(self) -> int:
        return self.output("up").count("is ready")

    def run(self, *command: str, name: str | None = None) -> "subprocess.Popen[bytes]":
        """Start a `giro` command in the background; its log is stored under `name`."""
        return self.spawn([sys.executable, "-m", "core.cli", *command], name or command[0])

    def spawn(self, words: Sequence[str], name: str) -> "subprocess.Popen[bytes]":
        """Start any program with the settings of this stack; its log is stored under `name`."""
        with (self.folder / f"{name}.out").open("ab") as out, (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(words, cwd=self.program, env=self.environment, stdout=out, stderr=log)
        self.processes.append(process)
        return process

    def giro(self, *command: str, stdin: str = "", seconds: float = 60) -> "subprocess.CompletedProcess[str]":
        """Run a `giro` command until it ends."""
        return subprocess.run(
            [sys.executable, "-m", "core.cli", *command],
            cwd=self.program,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def stop(self) -> int:
        """Stop `giro up`, and return its exit status."""
        self.supervisor.send_signal(signal.SIGTERM)
        return self.supervisor.wait(STOP_SECONDS)

    def close(self) -> None:
        """End every process that still runs, orphans included."""
        self.client.close()
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        for pid in self.pids():
            if is_alive(pid) and self.is_ours(pid):
                os.kill(pid, signal.SIGKILL)

    def is_ours(self, pid: int) -> bool:
        """Whether a process runs with this stack's settings; another process may have got the same pid."""
        try:
            return f"GIRO_DATA_DIR={self.data}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False

    def pids(self) -> list[int]:
        """Return the pid of every child that the supervisor has started so far."""
        return [line["pid"] for line in self.logged("child_started", name="up")]

    def pid_of(self, child: str) -> int:
        """Return the pid of a child's newest process."""
        return int([line["pid"] for line in self.logged("child_started", name="up") if line["child"] == child][-1])

    def kill(self, child: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a child a signal and return its pid."""
        pid = self.pid_of(child)
        os.kill(pid, number)
        return pid

    # --- logs and metrics ---

    def output(self, name: str) -> str:
        return _read(self.folder / f"{name}.out")

    def log_text(self, name: str) -> str:
        return _read(self.folder / f"{name}.log")

    def logged(self, event: str, name: str = "up") -> list[dict[str, Any]]:
        """Return the log lines of an event."""
        whole = [line for line in self.log_text(name).splitlines(keepends=True) if re.fullmatch(r"\{.*\}\n", line)]
        return [line for line in map(json.loads, whole) if line.get("event") == event]

    def scrape(self, process: str) -> str:
        """Return the metrics of a process, as Prometheus would read them."""
        answer = httpx2.get(f"http://127.0.0.1:{self.metrics_ports[process]}/metrics", trust_env=False, timeout=10)
        assert answer.status_code == 200, answer.text
        text: str = answer.text
        return text

    # --- as a client ---

    def sign_up(self, role: str = "customer") -> "Client":
        """Sign up a new user, log in, and return their client."""
        email = f"{uuid4().hex[:12]}@example.com"
        if role == "operator":
            assert self.giro("operator", "create", email, stdin=PASSWORD).returncode == 0
        else:
            answer = self.client.post("/signup", json={"email": email, "password": PASSWORD})
            assert answer.status_code == 201, answer.text
        return self.log_in(email)

    def log_in(self, email: str) -> "Client":
        """Log in an existing user, and return their client."""
        tokens = self.client.post("/login", data={"username": email, "password": PASSWORD}).json()
        return Client(self, {"Authorization": f"Bearer {tokens['access_token']}"})


class Client:
    """A logged-in user."""

    def __init__(self, stack: Stack, headers: dict[str, str]) -> None:
        self.stack = stack
        self.headers = headers

    def get(self, path: str, **headers: str) -> httpx2.Response:
        return self.stack.client.get(path, headers=self.headers | headers)

    def post(self, path: str, body: object, **headers: str) -> httpx2.Response:
        return self.stack.client.post(path, json=body, headers=self.headers | headers)

    def open_account(self, funds: int = 0, currency: str = "USD") -> str:
        """Open an account, and deposit money on it."""
        account: str = self.post("/accounts", {"currency": currency}).json()["id"]
        if funds:
            done = self.stack.giro("deposit", account, str(funds))
            assert "deposited" in done.stdout, done.stdout + done.stderr
        return account

    def balance(self, account: str) -> int:
        balance: int = self.get(f"/accounts/{account}").json()["balance"]
        return balance

    def submit(self, payer: str, payee: str, amount: int = 100, **headers: str) -> httpx2.Response:
        """Submit a transfer."""
        body = {"from_account_id": payer, "to_account_id": payee, "amount": amount}
        return self.post("/transfers", body, **headers)

    def status(self, transfer_id: str) -> str:
        status: str = self.get(f"/transfers/{transfer_id}").json()["status"]
        return status

    def poll_to_end(self, transfer_id: str) -> str:
        """Poll a transfer until it ends, and return its status."""
        return eventually(lambda: (status := self.status(transfer_id)) != "pending" and status, 60)
