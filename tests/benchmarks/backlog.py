"""The effect of a backlog on clients: the time of a POST with and without a draining backlog."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.benchmarks.baselines.giro import Giro
from tests.benchmarks.figures import Results
from tests.benchmarks.load import sustained
from tests.benchmarks.service import Connections, quantile
from tests.waiting import eventually

LONGEST_SECONDS = 300
"""Time limit for draining a backlog; many times the time on an idle machine."""
BODY = 1000
CONNECTIONS = 2


def measure(results: Results, giro: Giro, *, rounds: int, backlog: int, rate: float, seconds: float) -> None:
    """Record the POST's median and 99th percentile without a backlog, and while one drains, in turns."""
    for number in range(-1, rounds):
        found = results if number >= 0 else Results()  # the first round warms up
        _without(found, giro, rate, seconds if number >= 0 else 2)
        if number >= 0:
            _with(found, giro, rate, backlog)


def _without(results: Results, giro: Giro, rate: float, seconds: float) -> None:
    over = time.perf_counter() + seconds
    taken: list[float] = []
    sustained(giro.progress, lambda: taken.extend(asyncio.run(post(giro, rate, lambda: time.perf_counter() > over))))
    _note(results, "without a backlog", taken)


def _with(results: Results, giro: Giro, rate: float, backlog: int) -> None:
    bodies = giro.bulk_bodies(-(-backlog // BODY) * BODY, BODY, hot=False)
    with held(giro):
        giro.submit_in_bulk(bodies, CONNECTIONS)
        last = giro.progress()
        assert last.pending >= backlog, last
    begun = time.perf_counter()
    taken = asyncio.run(post(giro, rate, lambda: not _is_pending(giro, last.accepted)))
    results.add("backlog drained", last.pending / (time.perf_counter() - begun), "transfers/s")
    _note(results, "while a backlog drains", taken)
    eventually(lambda: giro.progress().pending == 0, LONGEST_SECONDS)


def _note(results: Results, name: str, taken: list[float]) -> None:
    results.add(f"POST {name}, median", quantile(taken, 0.5), "ms")
    results.add(f"POST {name}, p99", quantile(taken, 0.99), "ms")


def _is_pending(giro: Giro, last: int) -> bool:
    query = "SELECT watermark < ? FROM lanes WHERE name = 'settle'"
    return bool(giro.ledger.execute(query, (last,)).fetchone()[0])


@contextmanager
def held(giro: Giro) -> Iterator[None]:
    """Stop the settlement worker inside this context. Nothing may be pending, so that it sleeps without a lock."""
    pid = giro.stack.pid_of("settlement")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def post(giro: Giro, rate: float, is_over: Callable[[], bool]) -> list[float]:
    """Submit `rate` transfers a second, without waiting for answers; return the milliseconds of each.

    Times count from when the transfer was due, not from when it was sent: a late client has waited as well.
    """
    connections = Connections(giro.port)
    taken: list[float] = []

    async def one(due: float) -> None:
        connection = await connections.take()
        payer, payee = random.sample(giro.singles, 2)
        status, body = await connection.submit(payer, payee)
        taken.append((time.perf_counter() - due) * 1000)
        assert status == 202, body
        connections.give_back(connection)

    begun = time.perf_counter()
    running = []
    while not is_over():
        due = begun + len(running) / rate
        assert due < begun + LONGEST_SECONDS, "the backlog does not end"
        await asyncio.sleep(due - time.perf_counter())
        running.append(asyncio.create_task(one(due)))
    await asyncio.gather(*running)
    connections.close()
    return taken
