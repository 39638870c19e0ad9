"""Load that is not the bottleneck: wrk (Debian has it), which speaks HTTP in C and asks a Lua script what to send."""

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
"""A service at whose ledger nothing has changed for so long has nothing in its hands."""


@dataclass(frozen=True, slots=True)
class Payer:
    """An account, and the token of who may pay from it."""

    account: str
    token: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a ledger has come: transfers ever accepted, and those of them that have not ended."""

    accepted: int
    pending: int


def write_payers(path: Path, payers: Sequence[Payer]) -> Path:
    """Write down for the script who may pay."""
    path.write_text("".join(f"{payer.account} {payer.token}\n" for payer in payers))
    return path


def require_wrk() -> None:
    """Raise SystemExit where there is no wrk."""
    if shutil.which("wrk") is None:
        raise SystemExit("the benchmark needs wrk (Debian: apt-get install wrk)")


def press(port: int, payers: Path, seconds: float, *, hot: bool = False, scattered: bool = False) -> float:
    """POST transfers over 64 kept-alive connections, and say how many were answered a second.

    `scattered`: the keys lie anywhere in the index over them, and not beside each other. Raises AssertionError where an
    answer was no success: the rate of refusals is nobody's rate.
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
    """Transfers ended a second, from the first request until the last transfer has ended.

    Both numbers are the ledger's own: a request cut off by the end of the load counts if, and only if, it was accepted.
    """
    before = progress()
    assert before.pending == 0, before
    begun = time.perf_counter()
    load()
    accepted, ended = _wait_for_the_end(progress)
    return (accepted - before.accepted) / (ended - begun)


def _wait_for_the_end(progress: Callable[[], Progress]) -> tuple[int, float]:
    """Wait until nothing is pending and nothing more comes; return what was accepted, and when the last had ended.

    The load's last requests may still be in the service's hands when the load is over.
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
    """Answers 202 to whatever comes; wrk sends one request at a time on a connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}")


@contextmanager
def trivial_server() -> Iterator[int]:
    """Run a server that does nothing, and give its port: what the generator reaches on it bounds no service."""
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
