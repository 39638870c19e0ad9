"""The memory of a service's processes as the number of transfers grows."""

import asyncio
import random

from tests.benchmarks.baselines.giro import Giro
from tests.benchmarks.figures import Results
from tests.benchmarks.footprint import unshared_mb
from tests.benchmarks.load import press, sustained
from tests.benchmarks.service import Connection

BULK = 0.95
"""The share of the transfers that come in batches; the rest come one by one."""
BODY, CONNECTIONS = 1000, 2
READS, READERS = 4000, 8
PROCESSES = {"api": "API", "settlement": "worker"}


def measure(results: Results, giro: Giro, *, early: int, late: int) -> None:
    """Record the memory of one continuously running service after `early` and after `late` transfers."""
    for moment, count in (("early", early), ("late", late)):
        _grow(giro, count)
        asyncio.run(_read(giro))
        for process, name in PROCESSES.items():
            results.add(f"{name} memory, {moment}", unshared_mb(giro.stack.pid_of(process)), "MB")


def _grow(giro: Giro, count: int) -> None:
    """Submit transfers up to this number, and wait until they end."""
    while (missing := int(count * BULK) - giro.progress().accepted) > 0:
        bodies = giro.bulk_bodies(min(-(-missing // BODY), 100) * BODY, BODY, hot=False)
        sustained(giro.progress, lambda bodies=bodies: giro.submit_in_bulk(bodies, CONNECTIONS))
    while giro.progress().accepted < count:
        sustained(giro.progress, lambda: press(giro.port, giro.payers, 2))


async def _read(giro: Giro) -> None:
    """Read transfers, accounts and pages, over enough connections to use all of the API's read sessions."""
    first, newest = len(giro.singles) + 1, giro.progress().accepted  # the users may not read the bank's deposits

    async def one(count: int) -> None:
        connection = await Connection.open(giro.port)
        for number in range(count):
            payer = random.choice(giro.singles)
            paths = (f"/transfers?limit=100&account_id={payer.account}", f"/accounts/{payer.account}/transactions")
            path = (giro.path_of(random.randint(first, newest)), f"/accounts/{payer.account}", *paths)[number % 4]
            status, body = await connection.ask(f"GET {path}", payer.headers)
            assert status == 200, body
        connection.close()

    await asyncio.gather(*(one(READS // READERS) for _ in range(READERS)))
