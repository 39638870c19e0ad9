"""One user submits batches as fast as the answers come: the wait of another user's transfers for their end.

The greedy user has two accounts, four connections, and no patience after a refusal. Bounded in time and on loopback.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from core.domain.batches import MAX_BATCH
from tests.benchmarks.service import Connection, Payer, at_a_rate, people, quantile
from tests.flows.stack import Stack

CONNECTIONS = 4
IMPATIENCE = 0.05
"""Seconds that the greedy user waits after a refusal, whatever `Retry-After` says."""


@dataclass(slots=True)
class Greed:
    """The answers that the greedy user got."""

    accepted: int = 0
    """Lines."""
    answers: Counter[str] = field(default_factory=Counter)
    """By status and code."""


async def submit_batches(port: int, payer: Payer, payee: Payer, lines: int, until: float) -> Greed:
    """Submit batches of this many lines over a few connections until a time of `time.perf_counter`."""
    greed = Greed()
    order = {"from_account_id": payer.account, "to_account_id": payee.account, "amount": 1}
    body = json.dumps({"mode": "independent", "transfers": [order] * lines}).encode()

    async def client() -> None:
        connection = await Connection.open(port)
        while time.perf_counter() < until:
            key = f"Idempotency-Key: {uuid4()}\r\n".encode()
            status, answer = await connection.ask("POST /transfers/bulk", payer.headers + key, body)
            told = json.loads(answer)
            greed.answers[f"{status} {told.get('code', '')}".strip()] += 1
            if status == 202:
                greed.accepted += lines
            else:
                await asyncio.sleep(IMPATIENCE)
        connection.close()

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    return greed


async def beside(
    port: int, greedy: Sequence[Payer], others: Sequence[Payer], lines: int, seconds: float
) -> tuple[Greed, list[float]]:
    """Return the greedy user's answers, and the milliseconds that the others' transfers took to complete."""
    until = time.perf_counter() + seconds
    attack = asyncio.create_task(submit_batches(port, greedy[0], greedy[1], lines, until))
    await asyncio.sleep(1)
    times = await at_a_rate(port, others, int((seconds - 2) * 10))
    return await attack, times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="length of the attack (default: 20)")
    parser.add_argument("--lines", type=int, default=MAX_BATCH, help=f"lines of a batch (default: {MAX_BATCH})")
    options = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="giro-bench-") as folder:
        stack = Stack(Path(folder))
        try:
            everybody = people(stack.start(), 6)
            greedy, others = everybody[:2], everybody[2:]
            show("idle", asyncio.run(at_a_rate(stack.port, others, 100)))
            greed, times = asyncio.run(beside(stack.port, greedy, others, options.lines, options.seconds))
            show(f"beside batches of {options.lines}", times)
            print(f"the greedy user: {greed.accepted / options.seconds:.0f} lines/s, {dict(greed.answers)}")
        finally:
            stack.close()


def show(what: str, times: Sequence[float]) -> None:
    """Print a median and a 99th percentile of milliseconds."""
    print(
        f"accepted → completed, {what}: median {statistics.median(times):.0f} ms, p99 {quantile(times, 0.99):.0f} ms, "
        f"n = {len(times)}",
        flush=True,
    )


if __name__ == "__main__":
    main()
