"""The whole service as its clients see it: `make bench-service`.

It starts a separate service (real processes, real queue, real file with full fsyncs) and measures on loopback: the
start, the time from a transfer's 202 to its end at ten transfers a second, the rate of transfers submitted and
completed over 64 connections, the memory of all processes, and their processor time at rest. At the end it verifies
the ledger.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.flows.stack import Client, Stack

FUNDS = 10**12
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
FRESH_SECONDS = 2


@dataclass(frozen=True, slots=True)
class Payer:
    """An account and its owner's headers."""

    headers: bytes
    account: str


class Connection:
    """A kept-alive connection with minimal HTTP, so that the client's own time is not measured."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> "Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, start: str, headers: bytes, body: bytes = b"") -> tuple[int, bytes]:
        """Send a request and return status and body of the answer."""
        head = f"{start} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n".encode()
        self._writer.write(head + headers + b"\r\n" + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return int(answer[9:12]), await self._reader.readexactly(length)

    async def submit(self, payer: Payer, payee: Payer) -> tuple[int, bytes]:
        """Submit a small transfer."""
        order = {"from_account_id": payer.account, "to_account_id": payee.account, "amount": random.randint(1, 99)}
        return await self.ask("POST /transfers", payer.headers, json.dumps(order).encode())

    def close(self) -> None:
        self._writer.close()


class Connections:
    """A pool of connections that reuses each one while it is fresh.

    The service closes a connection after five idle seconds, perhaps exactly when the next request is on its way.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[tuple[float, Connection]] = []

    async def take(self) -> Connection:
        """Return the most recently used connection, or a new one."""
        if self._free:
            since, connection = self._free.pop()
            if time.perf_counter() < since + FRESH_SECONDS:
                return connection
            connection.close()
            self.close()  # the others have been idle even longer
        return await Connection.open(self._port)

    def give_back(self, connection: Connection) -> None:
        """Return a connection to the pool."""
        self._free.append((time.perf_counter(), connection))

    def close(self) -> None:
        """Close all unused connections."""
        while self._free:
            self._free.pop()[1].close()


async def at_a_rate(
    port: int, payers: Sequence[Payer], count: int, *, rate: float = 10, sample: int = 1
) -> list[float]:
    """Return the milliseconds from each transfer's 202 to the answer that it has ended, for a waiting client.

    `rate` transfers are submitted a second, `count` in all, without waiting for earlier ones. Only one in `sample` is
    polled.
    """
    connections = Connections(port)
    times = []

    async def one(number: int) -> None:
        connection = await connections.take()
        payer, payee = random.sample(payers, 2)
        status, body = await connection.submit(payer, payee)
        assert status == 202, body
        accepted = time.perf_counter()
        if number % sample == 0:
            path = f"GET /transfers/{json.loads(body)['id']}"
            _, body = await connection.ask(path, payer.headers + b"Prefer: wait=20\r\n")
            times.append((time.perf_counter() - accepted) * 1000)
            assert json.loads(body)["status"] == "completed", body
        connections.give_back(connection)

    begun = time.perf_counter()
    running = []
    for number in range(count):
        await asyncio.sleep(begun + number / rate - time.perf_counter())
        running.append(asyncio.create_task(one(number)))
    await asyncio.gather(*running)
    connections.close()
    return times


async def over_connections(port: int, payers: Sequence[Payer], connections: int, seconds: float) -> tuple[int, float]:
    """Submit as fast as the answers come; return the number accepted, and the seconds until the last ended."""
    accepted = 0
    begun = time.perf_counter()

    async def client() -> None:
        nonlocal accepted
        connection = await Connection.open(port)
        while time.perf_counter() < begun + seconds:
            status, body = await connection.submit(*random.sample(payers, 2))
            assert status == 202, body
            accepted += 1
        connection.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    connection = await Connection.open(port)
    last = await connection.submit(payers[0], payers[1])
    await connection.ask(f"GET /transfers/{json.loads(last[1])['id']}", payers[0].headers + b"Prefer: wait=30\r\n")
    connection.close()
    return accepted, time.perf_counter() - begun


def people(stack: Stack, count: int) -> list[Payer]:
    """Sign up users with enough money."""
    operator = stack.sign_up("operator")
    return [_payer(stack.sign_up(), operator) for _ in range(count)]


def _payer(person: Client, operator: Client) -> Payer:
    account = person.open_account()
    deposit = operator.post("/deposits", {"to_account_id": account, "amount": FUNDS}, Prefer="wait=20")
    assert deposit.json()["status"] == "completed", deposit.text
    lines = person.headers | {"Content-Type": "application/json"}
    return Payer("".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode(), account)


def resident_mb(pids: Sequence[int]) -> dict[str, float]:
    """Return the resident memory of processes by name and in total, in megabytes; each counts shared pages again."""
    sizes = {}
    for pid in pids:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        sizes[_name(words)] = pages * PAGE / 1e6
    return sizes | {"total": sum(sizes.values())}


def _name(words: Sequence[str]) -> str:
    for name in ("settlement", "jobs", "api.server.process", "up"):
        if name in words:
            return name.replace("api.server.process", "api").replace("up", "supervisor")
    return "scheduler" if "workers.schedule" in words else "valkey"


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the CPU time of processes so far."""
    fields = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids)
    return sum(int(field[11]) + int(field[12]) for field in fields) / TICKS


def quantile(values: Sequence[float], part: float) -> float:
    """Return the value below which `part` of the values are."""
    return sorted(values)[min(int(len(values) * part), len(values) - 1)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="repetitions of each figure (default: 3)")
    parser.add_argument("--seconds", type=float, default=10, help="length of one load (default: 10)")
    parser.add_argument("--connections", type=int, default=64, help="connections of the load (default: 64)")
    options = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} processors, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(prefix="giro-bench-") as folder:
        stack = Stack(Path(folder))
        try:
            measure(stack, options.rounds, options.seconds, options.connections)
        finally:
            stack.close()


def measure(stack: Stack, rounds: int, seconds: float, connections: int) -> None:
    """Measure one service, and print each figure once it is known."""
    begun = time.perf_counter()
    stack.start()
    print(f"start, until ready: {time.perf_counter() - begun:.1f} s")
    payers = people(stack, 32)
    pids = [
        stack.supervisor.pid,
        *(stack.pid_of(name) for name in ("valkey", "settlement", "jobs", "scheduler", "api")),
    ]
    used, begun = cpu_seconds(pids), time.perf_counter()
    time.sleep(10)
    idle = (cpu_seconds(pids) - used) / (time.perf_counter() - begun)
    print(f"at rest: {idle * 100:.1f} % of one processor, all processes together")
    for _ in range(rounds):
        times = asyncio.run(at_a_rate(stack.port, payers, int(seconds * 10)))
        print(
            f"accepted → completed at 10/s: median {statistics.median(times):.1f} ms, "
            f"p99 {quantile(times, 0.99):.1f} ms, n = {len(times)}"
        )
    for _ in range(rounds):
        accepted, took = asyncio.run(over_connections(stack.port, payers, connections, seconds))
        print(f"submitted → completed over {connections} connections: {accepted / took:.0f}/s, n = {accepted}")
    for name, size in resident_mb(pids).items():
        print(f"resident memory, {name}: {size:.0f} MB")
    verified = stack.giro("verify")
    print(verified.stdout.strip())
    assert verified.returncode == 0


if __name__ == "__main__":
    main()
