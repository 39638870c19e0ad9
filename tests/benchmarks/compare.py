"""Giro compared with its alternatives: `make bench`.

All baselines run on the same machine and disk with the same durability, and take turns in every round (A B C,
A B C, …), so that noise of the machine affects all of them. Ratios are computed per round. A figure counts only after
its ledger has been checked.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from pysqlite3 import dbapi2 as sqlite

from core.services import verification
from tests.benchmarks.baselines.giro import Giro
from tests.benchmarks.baselines.raw import RawLedger
from tests.benchmarks.baselines.served import Brief, CeleryBaseline
from tests.benchmarks.chain import Ledger
from tests.benchmarks.figures import Results, tables
from tests.benchmarks.load import Progress, press, require_wrk, sustained, trivial_server
from tests.benchmarks.service import quantile

DATA = Path(__file__).parents[2] / "data"
PEOPLE = 32
LOAD = "wrk, one thread, 64 kept-alive connections; bulk by an asyncio client with bodies written beforehand"
LIBRARIES = ("sqlalchemy", "aiosqlite", "fastapi", "uvicorn", "celery", "asyncpg", "tigerbeetle")


@dataclass(frozen=True, slots=True)
class Options:
    """Lengths and repetitions."""

    rounds: int
    seconds: float
    transfers: int
    """Number of transfers in a round in process, and in a round in bulk."""
    bulk_size: int
    bulk_connections: int


class Peer(Protocol):
    """A ledger behind HTTP that accepts the same `POST /transfers` as Giro."""

    port: int
    payers: Path

    def progress(self) -> Progress: ...

    def check(self) -> None: ...

    def close(self) -> None: ...


Round = Callable[[Results], None]
"""Measures once, and records the figures."""


def main() -> None:
    """Measure, check, print, and write the figures to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each baseline (default: 3)")
    parser.add_argument("--seconds", type=float, default=4, help="length of one load over HTTP (default: 4)")
    parser.add_argument("--transfers", type=int, default=20_000, help="transfers of a round in process or in bulk")
    parser.add_argument("--bulk-size", type=int, default=1000, help="transfers of a bulk request (default: 1,000)")
    parser.add_argument("--bulk-connections", type=int, default=2, help="connections of the bulk (default: 2)")
    parser.add_argument("--json", type=Path, default=DATA / "bench.json", help="where to write the figures")
    given = vars(parser.parse_args())
    target, options, results = given.pop("json"), Options(**given), Results()
    require_wrk()
    DATA.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=DATA) as folder:
        about = describe(Path(folder), LOAD, asdict(options))
        measure(Path(folder), options, results)
    print("\n".join(f"{name}: {value}" for name, value in about.items()), tables(results), sep="\n\n")
    target.write_text(json.dumps({"about": about, "units": results.units, "values": results.values}, indent=2) + "\n")


def measure(folder: Path, options: Options, results: Results) -> None:
    """Start every baseline, let them take turns, and check every ledger."""
    with ExitStack() as built:
        turns: list[Round] = []
        checks: list[Callable[[], None]] = []
        for build in (build_settling, build_giro, build_brief, build_celery, build_postgres, build_tigerbeetle):
            build(built, folder, options, turns, checks)
        for number in range(-1, options.rounds):
            for turn in turns[:: 1 if number % 2 == 0 else -1]:  # the order alternates
                turn(results if number >= 0 else Results())  # the first turn warms up
        for check in checks:
            check()


def build_settling(
    built: ExitStack, folder: Path, options: Options, turns: list[Round], checks: list[Callable[[], None]]
) -> None:
    """Measure the project's settlement and the raw one in this process, each on a separate ledger."""
    project, prepared = Ledger(folder / "settle"), Ledger(folder / "raw")
    raw = RawLedger(prepared.database.path)
    for ledger in (project, prepared):
        built.callback(ledger.database.close)
    built.callback(raw.close)

    def settle_project(results: Results) -> None:
        project.submit(options.transfers)
        results.add("giro settle", 1e6 / project.settle(1000).wall_us, "transfers/s")

    def settle_raw(results: Results) -> None:
        accepting, settling = raw_seconds(raw, prepared, options.transfers)
        results.add("raw settle", options.transfers / settling, "transfers/s")
        results.add("raw accept and settle", options.transfers / (accepting + settling), "transfers/s")

    turns += [settle_project, settle_raw]
    checks += [raw.check, *(lambda ledger=ledger: check_chain(ledger) for ledger in (project, prepared))]


def raw_seconds(raw: RawLedger, prepared: Ledger, count: int) -> tuple[float, float]:
    """Return the seconds for accepting these transfers, and for settling them."""
    orders = prepared.orders(count)
    begun = time.perf_counter()
    raw.accept(orders)
    accepted = time.perf_counter()
    assert raw.settle() == count
    return accepted - begun, time.perf_counter() - accepted


def check_chain(ledger: Ledger) -> None:
    """Raise AssertionError unless a ledger verifies: the raw one must keep the same promises as Giro's."""
    report = verification.verify(ledger.database)
    assert report.holds, report.breaches


def build_giro(
    built: ExitStack, folder: Path, options: Options, turns: list[Round], checks: list[Callable[[], None]]
) -> None:
    """Measure the whole service over HTTP: single transfers and bulk, uniform and with one hot account."""
    giro = Giro(folder / "giro")
    built.callback(giro.close)
    giro.start(PEOPLE, accounts=100)

    def alone(results: Results) -> None:
        with trivial_server() as port:
            results.add("generator alone", press(port, giro.payers, 2), "requests/s")

    def single(results: Results, *, hot: bool = False) -> None:
        rate = sustained(giro.progress, lambda: press(giro.port, giro.payers, options.seconds, hot=hot))
        results.add("giro single, hot" if hot else "giro single", rate, "transfers/s")

    def bulk(results: Results, *, hot: bool = False) -> None:
        bodies = giro.bulk_bodies(options.transfers, options.bulk_size, hot=hot)
        rate = sustained(giro.progress, lambda: giro.submit_in_bulk(bodies, options.bulk_connections))
        results.add("giro bulk, hot" if hot else "giro bulk", rate, "transfers/s")

    def latency(results: Results) -> None:
        slow = giro.latencies(10, options.seconds)
        fast = giro.latencies(1000, options.seconds, sample=20)
        results.add("latency at 10/s, median", statistics.median(slow), "ms")
        results.add("latency at 10/s, p99", quantile(slow, 0.99), "ms")
        results.add("latency at 1000/s, p99", quantile(fast, 0.99), "ms")

    turns += [
        latency,
        alone,
        single,
        lambda results: single(results, hot=True),
        bulk,
        lambda results: bulk(results, hot=True),
    ]
    checks.append(giro.check)


def build_brief(
    built: ExitStack, folder: Path, options: Options, turns: list[Round], checks: list[Callable[[], None]]
) -> None:
    """Measure the design with one commit per request."""
    peer = Brief(folder / "brief", PEOPLE)
    built.callback(peer.close)
    peer.start()
    checks.append(peer.check)
    turns.append(over_http(peer, "brief", options))


def build_celery(
    built: ExitStack, folder: Path, options: Options, turns: list[Round], checks: list[Callable[[], None]]
) -> None:
    """Measure the design with one task per transfer."""
    if find_spec("celery") is None:
        print("celery: not measured, because the package is not installed")
        return
    peer = CeleryBaseline(folder / "celery", PEOPLE)
    built.callback(peer.close)
    peer.start()
    checks.append(peer.check)
    turns.append(over_http(peer, "celery", options))


def build_postgres(
    built: ExitStack, folder: Path, options: Options, turns: list[Round], checks: list[Callable[[], None]]
) -> None:
    """Measure the design with one function call per transfer, uniform and with one hot account."""
    url = os.environ.get("BENCH_POSTGRES_URL")
    if find_spec("asyncpg") is None:
        print("postgres: not measured, because the package asyncpg is not installed")
        return
    from tests.benchmarks.baselines import postgres  # it needs the package

    if url is None and postgres.binaries() is None:
        print("postgres: not measured, because `postgres` is not installed and BENCH_POSTGRES_URL is not set")
        return
    peer = postgres.Postgres(folder / "postgres", PEOPLE, url)
    built.callback(peer.close)
    peer.start()
    print(f"postgres: {peer.version()}")
    checks.append(peer.check)
    turns += [over_http(peer, "postgres", options), over_http(peer, "postgres, hot", options, hot=True)]


def build_tigerbeetle(
    built: ExitStack, folder: Path, options: Options, turns: list[Round], checks: list[Callable[[], None]]
) -> None:
    """Measure batches of 8,189 transfers on an existing cluster."""
    address = os.environ.get("BENCH_TIGERBEETLE_ADDRESS")
    if address is None or find_spec("tigerbeetle") is None:
        print("tigerbeetle: not measured; it needs the package and BENCH_TIGERBEETLE_ADDRESS")
        return
    from tests.benchmarks.baselines.tigerbeetle import TigerBeetle

    peer = TigerBeetle(address, accounts=100)
    built.callback(peer.close)
    checks.append(peer.check)
    turns.append(lambda results: results.add("tigerbeetle", peer.rate(options.transfers), "transfers/s"))


def over_http(peer: Peer, name: str, options: Options, *, hot: bool = False) -> Round:
    """Let a baseline that speaks HTTP take its turns under the same load as Giro."""

    def turn(results: Results) -> None:
        rate = sustained(peer.progress, lambda: press(peer.port, peer.payers, options.seconds, hot=hot))
        results.add(name, rate, "transfers/s")

    return turn


def describe(folder: Path, load: str, options: Mapping[str, object]) -> dict[str, object]:
    """Return the machine and the versions of the measurement."""
    words = ["findmnt", "-no", "FSTYPE,SOURCE", "-T", str(folder)]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    versions = {name: _version(name) for name in LIBRARIES}
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{models[0].partition(': ')[2] if models else platform.machine()}, {os.cpu_count()} cores",
        "kernel": platform.release(),
        "filesystem": " ".join(found.stdout.split()) or "unknown",
        "Python, SQLite": f"{platform.python_version()}, {sqlite.sqlite_version}",
        "libraries": ", ".join(f"{name} {number}" for name, number in versions.items() if number),
        "load": load,
        "options": dict(options),
    }


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
