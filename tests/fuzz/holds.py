"""How long one request blocks the API's event loop, and with it all other clients.

Each request is measured alone. If the time is close to the limit, it is measured again, and the shortest time counts,
because noise of the machine rarely affects all tries. The last figure is the delay for another client while the
service handles eight batches at once.
"""

import mmap
import os
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median

from tests.fuzz.bounds import BULK, Request, batches
from tests.fuzz.inputs import Inputs
from tests.fuzz.wire import exchange

LONGEST_MS = 20.0
TRIES = 5
CALM_SECONDS = 0.003
"""Waiting time before and after a request: the loop beats each millisecond."""

AT_ONCE = 8
"""Batches that the service handles at once; half of them may belong to one user."""


class Watch:
    """Reads the loop times that the API process records (watched/sitecustomize.py)."""

    def __init__(self, folder: Path) -> None:
        path = folder / "held"
        path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._noted = mmap.mmap(file.fileno(), 8)
        home = Path(__file__).parents[2]
        self.environment = {
            "LOOP_WATCH": str(path),
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent / "watched"), str(home)]),
        }

    def longest_ms(self, ask: Callable[[], object]) -> float:
        """Return the longest time in milliseconds for which the loop was blocked during a request."""
        time.sleep(CALM_SECONDS)
        self._noted[:] = bytes(8)
        ask()
        time.sleep(CALM_SECONDS)
        found: float = struct.unpack("d", self._noted)[0]
        return found * 1000

    def least_ms(self, ask: Callable[[], object]) -> float:
        """Return the same, or the shortest of several tries if the first one is close to the limit."""
        least = self.longest_ms(ask)
        for _ in range(TRIES - 1):
            if least > LONGEST_MS / 2:
                least = min(least, self.longest_ms(ask))
        return least


def measure(watch: Watch, requests: Iterable[Request], send: Callable[[str, list[bytes]], None]) -> list[str]:
    """Measure all requests, print the longest hold of each route, and return those over the limit."""
    found: dict[str, list[tuple[float, str]]] = {}
    for route, shape, write in requests:
        held = watch.least_ms(lambda write=write: send("at the bounds", list(write())))  # type: ignore[misc]
        found.setdefault(route, []).append((held, shape))
    print(f"{'route':<52} {'shape':<28} longest hold of the event loop")
    for route, held in found.items():
        shown = sorted(held, reverse=True) if route.endswith(BULK) else [max(held)]
        for longest, shape in shown:
            print(f"{route:<52} {shape:<28} {longest:6.1f} ms")
    print(f"{sum(map(len, found.values()))} requests, {len(found)} routes, bound {LONGEST_MS:.0f} ms")
    return [
        f"{route}: {shape} holds the event loop for {longest:.1f} ms"
        for route, held in found.items()
        for longest, shape in held
        if longest > LONGEST_MS
    ]


def crowd(watch: Watch, port: int, people: Sequence[Inputs], payer: str, payee: str) -> list[str]:
    """Send eight batches at once, print the delay for another client, and return a finding if the hold was too long."""
    body = batches(payer, payee)["lines of 81 unknown fields"]()
    waits: list[float] = []
    statuses: Counter[str] = Counter()

    def submit(one: Inputs) -> None:
        statuses.update(exchange(port, [one.post(BULK, body)]))

    def ask() -> None:
        senders = [threading.Thread(target=submit, args=(people[n % len(people)],)) for n in range(AT_ONCE)]
        for sender in senders:
            sender.start()
        while any(sender.is_alive() for sender in senders):
            begun = time.perf_counter()
            exchange(port, [people[0].head("GET /users/me HTTP/1.1")])
            waits.append((time.perf_counter() - begun) * 1000)

    held = watch.least_ms(ask)
    print(
        f"{AT_ONCE} batches of {len(body):,} bytes at once, answered {dict(statuses)}: longest hold {held:.1f} ms; "
        f"{len(waits)} answers to another client took {median(waits):.1f} ms (median), {max(waits):.1f} ms (longest)"
    )
    return [f"{AT_ONCE} batches at once hold the event loop for {held:.1f} ms"] if held > LONGEST_MS else []
