"""The player of `tests/benchmarks/ledgers.py`: plays rounds with the program on its path, of this revision or another.

It may use only what both revisions have.
"""

import json
import sys
import time
from pathlib import Path

from core.services import verification
from tests.benchmarks.chain import Ledger
from tests.builders import accept, rows, settle_all


class Clock:
    """Adds up the time and the processor time of its uses."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def __enter__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter() - self._wall
        self.cpu += time.process_time() - self._cpu


def play_transfers(ledger: Ledger, name: str, group: int, count: int) -> dict[str, float]:
    """Accept transfers in groups and settle each group; microseconds a transfer, and bytes of the file a transfer."""
    accepting, settling = Clock(), Clock()
    before = size(ledger)
    for _ in range(0, count, group):
        orders = ledger.orders(group)
        with accepting:
            accept(ledger.database, *orders)
        with settling:
            settle_all(ledger.database, 5000)
    figures = {}
    for what, clock in (("accept", accepting), ("settle", settling)):
        figures[f"{name} {what}, µs"] = clock.wall / count * 1e6
        figures[f"{name} {what}, µs of processor time"] = clock.cpu / count * 1e6
    if group > 1:
        figures["bytes a transfer"] = (size(ledger) - before) / count
    return figures


def play_verification(ledger: Ledger) -> dict[str, float]:
    """Verify the whole ledger; microseconds a transfer."""
    clock = Clock()
    with clock:
        report = verification.verify(ledger.database)
    assert report.holds, report.breaches
    figures = {"verify, µs": clock.wall, "verify, µs of processor time": clock.cpu}
    return {name: seconds / report.transfers * 1e6 for name, seconds in figures.items()}


def size(ledger: Ledger) -> int:
    """Return the size of the file's used pages in bytes, with those that are still in the write-ahead log."""
    query = (
        "SELECT (page_count - freelist_count) * page_size AS bytes "
        "FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
    )
    used: int = rows(ledger.database, query)[0]["bytes"]
    return used


def main() -> None:
    """Play the round that each line of the input names, and answer with its figures as JSON."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what the program logs is no answer
    ledger = Ledger(Path(sys.argv[1]))
    for line in sys.stdin:
        kind, *order = line.split()
        figures = (
            play_verification(ledger) if kind == "verify" else play_transfers(ledger, order[0], *map(int, order[1:]))
        )
        print(json.dumps(figures), file=answers, flush=True)


if __name__ == "__main__":
    main()
