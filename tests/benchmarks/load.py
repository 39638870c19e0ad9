"""A load generator that is not the bottleneck: wrk (packaged in Debian), written in C, with a Lua script."""

import asyncio
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from uuid import uuid4

from tests.flows.stack import free_port

SCRIPT = Path(__file__).with_name("load.lua")
CONNECTIONS = 64
END_SECONDS = 120
QUIET_SECONDS = 0.5
"""Once the ledger has not changed for this long, the service has no request in progress."""


@dataclass(frozen=True, slots=True)
class Payer:
    """An account, and its owner's token."""

    account: str
    token: str


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a ledger: the number of accepted transfers, and the number of pending ones."""

    accepted: int
    pending: int


def write_payers(path: Path, payers: Sequence[Payer]) -> Path:
    """Write the payers to a file for the script."""
    path.write_text("".join(f"{payer.account} {payer.token}\n" for payer in payers))
    return path


def require_wrk() -> None:
    """Raise SystemExit if wrk is not installed."""
    if shutil.which("wrk") is None:
        raise SystemExit("the benchmark needs wrk (Debian: apt-get install wrk)")


def press(port: int, payers: Path, seconds: float, *, hot: bool = False, scattered: bool = False) -> float:
    """POST transfers over 64 kept-alive connections, and return the number of answers per second.

    `scattered`: the keys are spread over their whole index instead of adjacent. Raises AssertionError if an answer was
    not a success: a rate of refusals is meaningless.
    """
    words = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "--timeout", "30s", "-s", str(SCRIPT)]
    drawn = ["hot" if hot else "uniform", uuid4().hex, "scattered" if scattered else "adjacent"]
    words += [f"http://127.0.0.1:{port}/transfers", "--", str(payers), *drawn]
    output = subprocess.run(words, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    assert "Non-2xx" not in output, output
    assert "Socket errors" not in output, output
    found = re.search(r"Requests/sec:\s+([\d.]+)", output)
    assert found, output
    return float(found[1])


def sustained(progress: Callable[[], Progress], load: Callable[[], object]) -> float:
    """Return ended transfers per second, from the first request until the last transfer has ended.

    Both numbers come from the ledger: a request that is cut off by the end of the load counts only if it was accepted.
    """
    before = progress()
    assert before.pending == 0, before
    begun = time.perf_counter()
    load()
    accepted, ended = _wait_for_the_end(progress)
    return (accepted - before.accepted) / (ended - begun)


def _wait_for_the_end(progress: Callable[[], Progress]) -> tuple[int, float]:
    """Wait until nothing is pending or in progress; return the number accepted, and when the last one ended.

    The service may still be handling the last requests when the load is over.
    """
    last, since = progress(), time.perf_counter()
    deadline = since + END_SECONDS
    while last.pending or time.perf_counter() < since + QUIET_SECONDS:
        assert time.perf_counter() < deadline, f"not all transfers have ended: {last}"
        time.sleep(0.01)
        if (seen := progress()) != last:
            last, since = seen, time.perf_counter()
    return last.accepted, since


class _Trivial(asyncio.Protocol):
    """Answers 202 to every request; wrk sends one request at a time on a connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}")


@contextmanager
def trivial_server() -> Iterator[int]:
    """Run a trivial server, and yield its port, to show that the generator is faster than every service."""
    loop, port = asyncio.new_event_loop(), free_port()
    server = loop.run_until_complete(loop.create_server(_Trivial, "127.0.0.1", port))
    thread = Thread(target=loop.run_forever)
    thread.start()
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.close()
