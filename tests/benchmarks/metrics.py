"""What measuring costs where transfers are accepted: `make bench-metrics`.

Two services of their own stand side by side: one as it is, read by a Prometheus as often as one would, and one whose
API counts nothing (tests/benchmarks/unmeasured.py). Both take the same load, one after the other, and who goes first
changes from pair to pair: what the machine does meanwhile falls on both. A pair gives one ratio of the rates.
"""

import argparse
import asyncio
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.service import Payer, cpu_seconds, over_connections, people
from tests.flows.stack import Stack

SCRAPE_SECONDS = 5.0


class Unmeasured(Stack):
    """A service whose API counts nothing."""

    def run(self, *command: str, name: str | None = None) -> "subprocess.Popen[bytes]":
        with (self.folder / "up.out").open("ab") as out, (self.folder / "up.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.benchmarks.unmeasured", *command],
                env=self.environment,
                stdout=out,
                stderr=log,
            )
        self.processes.append(process)
        return process


@contextmanager
def prometheus(stack: Stack) -> Iterator[None]:
    """Read the ports of a service again and again, until the block ends."""
    over = threading.Event()

    def read() -> None:
        while not over.wait(SCRAPE_SECONDS):
            for process in stack.metrics_ports:
                stack.scrape(process)

    thread = threading.Thread(target=read)
    thread.start()
    yield
    over.set()
    thread.join()


@dataclass(frozen=True, slots=True)
class Load:
    """What one load came to."""

    rate: float
    """Transfers accepted a second."""
    cpu_us: float
    """The API's processor time for each of them, in microseconds: a busy machine bends it less than the rate."""


def load(stack: Stack, payers: Sequence[Payer], connections: int, seconds: float) -> Load:
    """Submit as fast as the answers come. What is still pending then is settled before this returns."""
    api = [stack.pid_of("api")]
    used = cpu_seconds(api)
    accepted, _ = asyncio.run(over_connections(stack.port, payers, connections, seconds))
    return Load(accepted / seconds, (cpu_seconds(api) - used) / accepted * 1e6)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=16, help="pairs of loads (default: 16)")
    parser.add_argument("--seconds", type=float, default=4, help="length of one load (default: 4)")
    parser.add_argument("--connections", type=int, default=32, help="connections of the load (default: 32)")
    options = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} processors, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(prefix="giro-bench-") as folder:
        paths = [Path(folder) / name for name in ("measured", "unmeasured")]
        for path in paths:
            path.mkdir()
        stacks = [Stack(paths[0], measured=False, scraped=True), Unmeasured(paths[1], measured=False)]
        try:
            measure(stacks, options.pairs, options.connections, options.seconds)
        finally:
            for stack in stacks:
                stack.close()


def measure(stacks: Sequence[Stack], pairs: int, connections: int, seconds: float) -> None:
    """Let both services take the load in turns, and print each pair and what all of them come to."""
    sides = {stack: people(stack.start(), 16) for stack in stacks}
    for stack, payers in sides.items():
        load(stack, payers, connections, seconds / 2)  # to warm up
    found = []
    with prometheus(stacks[0]):
        for number in range(pairs):
            order = list(sides.items())[:: -1 if number % 2 else 1]
            loads = {stack: load(stack, payers, connections, seconds) for stack, payers in order}
            found.append((loads[stacks[0]], loads[stacks[1]]))
            (one, other) = found[-1]
            print(
                f"measured {one.rate:.0f}/s at {one.cpu_us:.0f} µs of the API, not {other.rate:.0f}/s at "
                f"{other.cpu_us:.0f} µs",
                flush=True,
            )
    show("accepted a second", [one.rate / other.rate for one, other in found])
    show("the API's processor time for each", [one.cpu_us / other.cpu_us for one, other in found])


def show(what: str, ratios: Sequence[float]) -> None:
    """Print what measuring makes of a figure."""
    print(
        f"{what}, measured to not measured: median {statistics.median(ratios):.3f}, "
        f"{min(ratios):.3f} to {max(ratios):.3f}, n = {len(ratios)}"
    )


if __name__ == "__main__":
    main()
