"""A service under load and under strace: its record, and its database before and after."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.faults.power.disk import Files
from tests.faults.power.record import KEPT, TRACED, Event, read_record
from tests.flows.stack import PASSWORD, STOP_SECONDS, Client, Stack
from tests.waiting import eventually

CLIENTS = 4
TRANSFERS = 200
FUNDS = 100_000
CHECKPOINT_MINUTES = 0.03
OPERATOR = "operator@example.com"
LONGEST_TEXT = 200_000
"""Bytes that strace records per call: more than any page, group of pages or answer."""

STRACE = (
    *("strace", "-f", "--seccomp-bpf", "-y", "-xx", "-s", str(LONGEST_TEXT), "-e", "signal=none"),
    *("-e", f"trace={','.join(TRACED)}"),
)


@dataclass(frozen=True, slots=True)
class Recording:
    """The recording of one run."""

    before: Files
    """The files at the start of the record."""
    events: Sequence[Event]
    after: Files
    """The files after every process had ended."""


class RecordedStack(Stack):
    """A stack whose calls to the disk and to clients are all recorded."""

    @property
    def record(self) -> Path:
        return self.folder / "record"

    def run(self, *command: str, name: str | None = None) -> "subprocess.Popen[bytes]":
        traced = [*STRACE, "-o", str(self.record), sys.executable, "-m", "core.cli", *command]
        return self.spawn(traced, name or command[0])

    def stop(self) -> int:
        """Stop the service, and wait until it and strace have ended."""
        self._tell_served()
        return self.supervisor.wait(STOP_SECONDS)

    def close(self) -> None:
        self._tell_served()
        super().close()

    def _tell_served(self) -> None:
        """Send SIGTERM to the traced service: strace ignores it, and killing strace would leave the service running."""
        for process in self.processes:
            if process.poll() is None:
                served = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
                for pid in served:
                    os.kill(int(pid), signal.SIGTERM)


def record(folder: Path) -> Recording:
    """Run a service below `folder`. Its path must not contain symbolic links, because the record has resolved paths.

    Clients submit, poll and cancel. Halfway through, a checkpoint moves the log into the database.
    """
    stack = RecordedStack(folder, measured=False, checkpoint_minutes=CHECKPOINT_MINUTES)
    # A slow wake-up leaves transfers pending, so that some can be cancelled.
    stack.environment["GIRO_FAILPOINTS"] = "wakeup.before_send=delay:60"
    try:
        for command in (("migrate",), ("operator", "create", OPERATOR)):
            done = stack.giro(*command, stdin=PASSWORD)
            assert done.returncode == 0, done.stderr
        before = _files(stack)
        stack.start()
        _load(stack)
        assert stack.stop() == 0
        return Recording(before, read_record(stack.record, stack.data), _files(stack))
    finally:
        stack.close()


def why_impossible() -> str | None:
    """Return why recording is not possible on this machine, or None if it is."""
    try:
        tried = subprocess.run(
            [*STRACE, "-o", os.devnull, "true"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return "strace is not installed (Debian and Ubuntu: apt install strace)"
    return None if tried.returncode == 0 else f"strace cannot trace processes here: {tried.stderr.strip()}"


def _files(stack: Stack) -> Files:
    """Return the files of a database that no process has open."""
    return {name: path.read_bytes() for name in KEPT if (path := stack.data / name).exists()}


def _load(stack: Stack) -> None:
    """Deposit money, and let clients transfer it before and after a checkpoint."""
    operator, ada = stack.log_in(OPERATOR), stack.sign_up()
    accounts = [ada.open_account() for _ in range(3)]
    for account in accounts:
        body = {"to_account_id": account, "amount": FUNDS}
        assert operator.post("/deposits", body, Prefer="wait=30").status_code == 200
    with ThreadPoolExecutor(CLIENTS) as clients:
        for first in range(0, TRANSFERS, TRANSFERS // 2):
            jobs = [clients.submit(_one, ada, accounts, first + number) for number in range(TRANSFERS // 2)]
            for job in jobs:
                job.result()
            if first == 0:
                _wait_for_a_checkpoint(stack)


def _one(client: Client, accounts: Sequence[str], number: int) -> None:
    """Submit a transfer, then cancel it, poll it until its end, read it once, or ignore it."""
    payer, payee = accounts[number % 3], accounts[(number + 1) % 3]
    transfer = client.submit(payer, payee, 1 + number).json()["id"]
    match number % 4:
        case 0:
            client.post(f"/transfers/{transfer}/cancel", {})
        case 1:
            client.poll_to_end(transfer)
        case 2:
            client.status(transfer)


def _wait_for_a_checkpoint(stack: Stack) -> None:
    """Wait for the next checkpoint."""

    def done() -> int:
        return sum(not line["blocked"] for line in stack.logged("checkpoint"))

    before = done()
    eventually(lambda: done() > before)
