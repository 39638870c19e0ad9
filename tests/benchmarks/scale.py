"""Giro with five million stored transfers, a backlog of 400,000, and a million transfers since the start.

`make bench-scale` measures everything over HTTP, on separate services with full fsyncs; small and large ledgers take
turns. The project's own services fill the ledgers in this process. A figure counts only after its ledger was verified
without pending transfers.

A whole run takes about twenty minutes on two cores, and 5 GB below data/. `--transfers` scales everything: the depth
is 1/50 of it, the backlog 2/25, and memory is measured after 1/5.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from core.settings import load_settings
from core.storage.sqlite.engine import Database
from core.storage.sqlite.upkeep import checkpoint
from tests.benchmarks import backlog, memory, reads
from tests.benchmarks.baselines.giro import Giro
from tests.benchmarks.compare import DATA, describe
from tests.benchmarks.figures import Results, table, tables
from tests.benchmarks.footprint import bytes_in, trees
from tests.benchmarks.laid import Ground, Layer, terminal
from tests.benchmarks.load import press, require_wrk, sustained
from tests.benchmarks.service import cpu_seconds

UNDISTURBED = {
    "backup_hours": 0,  # no job starts by itself during a measurement
    "verify_hours": 1000,
    "verify_recent_minutes": 10_000,
    "access_token_seconds": 36_000,
    "silent_seconds": 1000,  # a worker that is stopped on purpose does not count as lost
}
BULK_SIZE, BULK_CONNECTIONS = 1000, 2
SINGLE_SECONDS = 4
READS = 300
"""Number of reads of each kind in each round."""
AFTER_A_LIFE, BY_SIZE = ("memory", "backlog"), ("reads", "rates")
PARTS = AFTER_A_LIFE + BY_SIZE
LEAST_SHARE = 0.05
"""A table or index with fewer bytes per transfer is not printed: it grows with something else."""
LOAD = (
    "bulk: requests of 1,000 written beforehand, over 2 connections; single: wrk, 64 connections; reads: one "
    "connection to each ledger, one request at a time; beside a backlog: {rate:g} POSTs a second, sent without waiting "
    "for answers, by an asyncio client on the same cores"
)


@dataclass(frozen=True, slots=True)
class Options:
    """Sizes and repetitions."""

    transfers: int
    """Number of transfers in the large ledger."""
    rounds: int
    seconds: float
    rate: float
    bulk: int
    parts: Sequence[str]
    """The measured parts: some of memory, backlog, reads and rates."""

    def needs(self, parts: Sequence[str]) -> bool:
        """Return whether any of these parts is measured."""
        return not set(self.parts).isdisjoint(parts)

    @property
    def depth(self) -> int:
        """Return the number of legs before the page to read; also about the size of the small ledger."""
        return self.transfers // 50

    @property
    def backlog(self) -> int:
        return self.transfers * 2 // 25

    @property
    def grown(self) -> int:
        """Return the number of transfers before the last measurement of memory; the first is after a tenth of them."""
        return self.transfers // 5


def main() -> None:
    """Measure, check, print, and write the figures to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--transfers", type=int, default=5_000_000, help="transfers in the large ledger, at least 50,000"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="turns of each figure, but three with a backlog (default: 5)"
    )
    parser.add_argument("--seconds", type=float, default=10, help="length of the load without backlog (default: 10)")
    parser.add_argument("--rate", type=float, default=500, help="POSTs a second beside the backlog (default: 500)")
    parser.add_argument("--bulk", type=int, default=20_000, help="transfers of a round in bulk (default: 20,000)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what is measured (default: all)")
    parser.add_argument("--json", type=Path, default=DATA / "bench-scale.json", help="where to write the figures")
    given = vars(parser.parse_args())
    target, options, results = given.pop("json"), Options(**given), Results()
    require_wrk()
    DATA.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="scale-", dir=DATA) as folder:
        about = describe(Path(folder), LOAD.format(rate=options.rate), asdict(options))
        shares = measure(Path(folder), options, results)
    print("\n".join(f"{name}: {value}" for name, value in about.items()), tables(results), sep="\n\n")
    if rows := [(name, f"{share:.1f}") for name, share in shares.items() if share >= LEAST_SHARE]:
        print("", table(("table or index of the large ledger", "bytes a transfer"), rows), sep="\n")
    written = {"about": about, "units": results.units, "values": results.values, "bytes a transfer": shares}
    target.write_text(json.dumps(written, indent=2) + "\n")


def measure(folder: Path, options: Options, results: Results) -> dict[str, float]:
    """Fill the ledgers, measure each, and return the large one's bytes per transfer by table and index.

    The largest come first. The result is empty if no part needs the large ledger.
    """
    layer = Layer(folder / "large", depth=options.depth + reads.LONGEST_PAGE, total=options.transfers)
    layer.lay(0)
    if options.needs(AFTER_A_LIFE):
        measure_life(layer.ground.copy(folder / "grown"), options, results)
    return measure_size(layer, options, results) if options.needs(BY_SIZE) else {}


def measure_life(ground: Ground, options: Options, results: Results) -> None:
    """Measure one service that starts empty: its memory, and the effect of a backlog."""
    with served(ground, "grown", results) as giro:
        if "memory" in options.parts:
            with stage("memory"):
                memory.measure(results, giro, early=options.grown // 10, late=options.grown)
        if "backlog" in options.parts:
            with stage("backlog"):
                rounds, load = min(options.rounds, 3), {"rate": options.rate, "seconds": options.seconds}
                backlog.measure(results, giro, rounds=rounds, backlog=options.backlog, **load)


def measure_size(layer: Layer, options: Options, results: Results) -> dict[str, float]:
    """Let services with few and with many stored transfers take turns."""
    folder = layer.ground.folder.parent
    with stage("laying down"):
        empty = layer.ground.copy(folder / "empty")
        layer.lay(options.depth + reads.LONGEST_PAGE)
        small = layer.ground.copy(folder / "small")
        layer.lay(options.transfers)
    with served(layer.ground, "large", results) as large:
        if "reads" in options.parts:
            with served(small, "small", results) as giro, stage("reads"):
                sides = reads.Side("small", giro, small), reads.Side("large", large, layer.ground)
                asyncio.run(reads.measure(results, *sides, options.depth, rounds=options.rounds, count=READS))
        if "rates" in options.parts:
            with served(empty, "empty", results) as giro, stage("rates"):
                measure_rates(results, giro, large, options)
        stored = large.progress().accepted
    sizes = trees(layer.ground.folder / "data" / "banking.db")
    return {name: size / stored for name, size in sizes.most_common()}


def measure_rates(results: Results, empty: Giro, large: Giro, options: Options) -> None:
    """Let an empty ledger and the large one accept transfers in turns."""
    turns = [("empty", empty), ("large", large)]
    for number in range(-1, options.rounds):
        found = results if number >= 0 else Results()  # the first round warms up
        for name, giro in turns[:: 1 if number % 2 == 0 else -1]:  # the order alternates
            bulk(found, f"bulk, {name} ledger", giro, options.bulk)
            single(found, f"single, {name} ledger", giro)


def single(results: Results, name: str, giro: Giro) -> None:
    """Record the rate of single transfers, from the first request until the last has ended. Each has a random key."""
    rate = sustained(giro.progress, lambda: press(giro.port, giro.payers, SINGLE_SECONDS, scattered=True))
    results.add(name, rate, "transfers/s")


def bulk(results: Results, name: str, giro: Giro, transfers: int) -> None:
    """Record the rate of batches, from the first request until the last has ended, and steadier figures."""
    bodies = giro.bulk_bodies(transfers, BULK_SIZE, hot=False)
    pids = [giro.stack.pid_of(process) for process in ("api", "settlement")]
    used, written = cpu_seconds(pids), written_bytes(pids)
    rate = sustained(giro.progress, lambda: giro.submit_in_bulk(bodies, BULK_CONNECTIONS))
    results.add(name, rate, "transfers/s")
    results.add(f"{name}: processor", (cpu_seconds(pids) - used) / transfers * 1e6, "µs a transfer")
    results.add(f"{name}: written", (written_bytes(pids) - written) / transfers, "bytes a transfer")


def written_bytes(pids: list[int]) -> int:
    """Return the bytes that processes have written to disk so far."""
    texts = (Path(f"/proc/{pid}/io").read_text() for pid in pids)
    return sum(int(text.partition("\nwrite_bytes: ")[2].split()[0]) for text in texts)


@contextmanager
def served(ground: Ground, name: str, results: Results) -> Iterator[Giro]:
    """Run a service on a ledger, then record its size on disk.

    Raises AssertionError unless the ledger then verifies and has no pending transfers.
    """
    giro = Giro(ground.folder, **UNDISTURBED)
    try:
        yield giro.resume(ground.email, ground.accounts)
        with stage(f"verifying the {name} ledger"):
            progress = giro.progress()
            assert progress.pending == 0, progress
            giro.check()
    finally:
        giro.close()
    data = giro.stack.data
    database = Database(load_settings(_env_file=None, data_dir=data))
    checkpoint(database)
    database.close()
    results.add(f"on disk, {name} ledger", bytes_in(data) / progress.accepted, "bytes a transfer")


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Show the current step and its time on a terminal."""
    begun = time.perf_counter()
    with terminal.status(name):
        yield
    if terminal.is_terminal:
        terminal.print(f"{name}: {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
