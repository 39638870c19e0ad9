"""The cost of metrics when transfers are accepted: `make bench-metrics`.

It compares two services: a normal one, scraped as often as by Prometheus, and one whose API counts nothing
(tests/benchmarks/unmeasured.py). Both take the same load in turns (tests/benchmarks/pairs.py).
"""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.pairs import compare, options
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
    """Scrape the ports of a service repeatedly until the block ends."""
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


def main() -> None:
    """Measure and print."""
    wanted = options(__doc__)
    with tempfile.TemporaryDirectory(prefix="giro-bench-") as folder:
        paths = [Path(folder) / name for name in ("measured", "unmeasured")]
        for path in paths:
            path.mkdir()
        stacks = [Stack(paths[0], measured=False, scraped=True), Unmeasured(paths[1], measured=False)]
        compare("measured", stacks, wanted, prometheus(stacks[0]))


if __name__ == "__main__":
    main()
