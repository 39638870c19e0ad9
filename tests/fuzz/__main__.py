"""`make fuzz`: fuzz a throwaway service with hostile input, then verify the ledger.

First it sends requests of the maximum size; none may block the event loop for long (`holds.py`). Then it sends the
list of `inputs.py` over raw sockets, and simulates slow clients, clients that do not read, and many clients. The rest
of `FUZZ_SECONDS` goes to schemathesis (tests/contract, with many more examples) and to good requests with changed
bytes. `FUZZ_SEED` repeats a run. The exit status is 1 if a request was answered 5xx other than 503, hung, blocked
other clients, or did damage.
"""

import os
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path

from tests.contract.service import check
from tests.flows.stack import Stack
from tests.fuzz.bounds import Bounds
from tests.fuzz.holds import Watch, crowd, measure
from tests.fuzz.inputs import Inputs, Pieces
from tests.fuzz.wire import exchange
from tests.unthrottled import UNTHROTTLED

SECONDS = float(os.environ.get("FUZZ_SECONDS", "300"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
CLIENTS = 8
IDLE = 600
MOST_GROWTH_MB = 200
"""How much the API's memory may grow after it is warm."""

SHORT_LIMITS = {"header_seconds": 2, "body_seconds": 2, "idle_seconds": 2, "send_seconds": 2, "connections": 400}

LEAST_FOR_SCHEMATHESIS = 120
"""Seconds; with less time left, schemathesis would do no more than `make contract`."""


class Run:
    """One run: the inputs, the answers, and the findings."""

    def __init__(self, stack: Stack, watch: Watch) -> None:
        self.stack = stack
        self.watch = watch
        self.port = stack.port
        self.answers: dict[str, Counter[str]] = {}
        self.wrong: list[str] = []
        self.started = time.monotonic()
        ada = stack.sign_up()
        payer, payee = ada.open_account(funds=1_000_000), ada.open_account()
        self.inputs, self.operator, self.another = (
            Inputs(person.headers["Authorization"].removeprefix("Bearer "), payer, payee)
            for person in (ada, stack.sign_up("operator"), stack.sign_up())
        )
        self.payer, self.payee = payer, payee
        self.pids = {name: stack.pid_of(name) for name in ("api", "settlement", "jobs", "scheduler")}

    @property
    def left(self) -> float:
        return SECONDS - (time.monotonic() - self.started)

    def memory_mb(self) -> int:
        """Return the memory of the API process."""
        for line in Path(f"/proc/{self.pids['api']}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) // 1024
        raise AssertionError("a running process has a size")

    def send(self, kind: str, pieces: Pieces) -> None:
        """Send one input."""
        self.note(kind, pieces, exchange(self.port, pieces))

    def note(self, kind: str, pieces: Pieces, statuses: list[str]) -> None:
        counted = self.answers.setdefault(kind, Counter())
        for status in statuses:
            counted[status] += 1
            if status == "hangs" or (status.startswith("5") and status != "503"):
                self.wrong.append(f"{kind}: {status} for {b''.join(pieces)[:300]!r}")

    def send_all(self, kind: str, inputs: Iterable[Pieces]) -> None:
        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(lambda pieces: self.send(kind, pieces), inputs))
        self.look(kind)

    def look(self, after: str) -> None:
        """Check that the service answers, and that its processes are the same."""
        with suppress(Exception):
            if self.stack.client.get("/health").status_code == 200:
                now = {name: self.stack.pid_of(name) for name in self.pids}
                if now != self.pids:
                    self.wrong.append(f"{after}: processes were replaced: {self.pids}, now {now}")
                return
        self.wrong.append(f"{after}: the service no longer answers")


def slow_ones(run: Run) -> None:
    """Send heads and bodies that drip or stop, and try clients that leave, do not read, or are idle in hundreds."""
    inputs, port = run.inputs, run.port
    head = inputs.head("GET /accounts HTTP/1.1")
    body = inputs.post("/accounts", b'{"currency": "USD"}')
    for kind, whole in {"heads that drip": head, "bodies that drip": body}.items():
        with socket.create_connection(("127.0.0.1", port), timeout=15) as client:
            client.sendall(whole[:-19])
            with suppress(OSError):
                while True:  # until the service closes the connection
                    client.sendall(b"X: y\r\n" if kind.startswith("heads") else b" ")
                    client.settimeout(0.2)
                    with suppress(TimeoutError):
                        run.note(kind, [whole], [client.recv(65_536)[9:12].decode() or "closed"])
                        break
    for kind, part in {"heads that stop": head[:-2], "bodies that stop": body[:-1], "silence": b""}.items():
        run.send(kind, [part] if part else [])
    for whole in (head, body, head[:-2], body[:-1]):
        run.note("half-closed", [whole], exchange(port, [whole], then_close=True))
    with ExitStack() as crowd:
        for _ in range(IDLE):
            crowd.enter_context(socket.create_connection(("127.0.0.1", port), timeout=15))
        run.send(f"amid {IDLE} idle connections", [head])
    deaf_ones(run)
    run.look("slow clients")


def deaf_ones(run: Run) -> None:
    """Request a lot of data and read nothing."""
    ask = b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"
    with ExitStack() as crowd:
        for _ in range(50):
            deaf = crowd.enter_context(socket.socket())
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", run.port))
            deaf.sendall(ask * 10)
        run.send("amid 50 that do not read", [run.inputs.head("GET /accounts HTTP/1.1")])
        time.sleep(SHORT_LIMITS["send_seconds"])


def main() -> int:
    """Run everything, and print the inputs and the results."""
    with tempfile.TemporaryDirectory(prefix="giro-fuzz-") as folder:
        stack, watch = Stack(Path(folder), measured=False, **SHORT_LIMITS, **UNTHROTTLED), Watch(Path(folder))
        stack.environment |= watch.environment
        try:
            wrong = fuzz(Run(stack.start(), watch))
        finally:
            stack.close()
    for line in wrong[:20]:
        print(line)
    print(f"fuzz: {len(wrong) or 'nothing'} found, seed {SEED}")
    return 1 if wrong else 0


def at_the_bounds(run: Run) -> None:
    """Measure how long requests of the maximum size block the event loop."""
    document = run.stack.client.get("/openapi.json").json()
    bounds = Bounds(document, run.inputs, run.operator, run.payer, run.payee)
    run.wrong += measure(run.watch, bounds, run.send)
    run.wrong += crowd(run.watch, run.port, [run.inputs, run.another], run.payer, run.payee)
    run.look("requests at the bounds")


def fuzz(run: Run) -> list[str]:
    """Run everything, and return the findings."""
    at_the_bounds(run)
    run.send_all("good ones", [[run.inputs.head(f"GET {path} HTTP/1.1")] for path in run.inputs.paths * 20])
    warm = run.memory_mb()
    for kind, made in run.inputs.kinds().items():
        run.send_all(kind, made())
    slow_ones(run)
    if run.left > LEAST_FOR_SCHEMATHESIS:
        run.wrong += check(run.stack, examples=int(run.left / 4), seed=SEED, longest=run.left / 2 + 60)
        run.look("schemathesis")
    mutants = run.inputs.mutants(SEED)
    while run.left > 0:
        run.send_all("mutants", islice(mutants, 200))
    report(run, warm)
    return run.wrong


def report(run: Run, warm: int) -> None:
    """Print the counts, and check memory, log and ledger."""
    grown = run.memory_mb() - warm
    if grown > MOST_GROWTH_MB:
        run.wrong.append(f"the API uses {grown} MB more than at the start")
    log = run.stack.log_text("up")
    run.wrong += [
        f"in the log: {line[:2000]}" for line in log.splitlines() if "Traceback" in line or "unhandled" in line
    ]
    verified = run.stack.giro("verify")
    if verified.returncode:
        run.wrong.append(f"the ledger does not verify: {verified.stdout}{verified.stderr}")
    for kind, counted in run.answers.items():
        shown = ", ".join(f"{status}: {count}" for status, count in sorted(counted.items()))
        print(f"{kind:<28} {sum(counted.values()):>7}   {shown}")
    total = sum((counted for counted in run.answers.values()), Counter())
    print(f"{'all':<28} {sum(total.values()):>7}   {dict(sorted(total.items()))}")
    print(f"API: {warm} MB warm, {grown:+d} MB; ledger verified; {time.monotonic() - run.started:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
