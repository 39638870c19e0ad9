"""The migration of a large ledger of the version before, once in peace and once killed several times.

`make bench-migration` fills a database of an early version with five million transfers, brings it to the revision
before transfers never changed, and runs `giro migrate` on two copies of it. On the second one, the process is killed
(SIGKILL) at random moments, and started again. Both must end with the head of the chain that they had, and that head
must follow from the migrated rows.

It takes some ten minutes and 10 GB for five million transfers.
"""

import argparse
import os
import platform
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import core
from core.settings import load_settings
from core.storage.engines import SCHEMA_REVISION
from tests.benchmarks.footprint import trees
from tests.old_ledger import REVISION, fill_old_ledger, head_of_rows, upgrade

HOME = Path(core.__file__).parents[1]
BEFORE = "0015"
ACCOUNTS = 1000
LOOK_SECONDS = 0.02

PARTS = ("transfers", "endings")
"""Tables whose size per transfer is printed, with their indexes."""


@dataclass(slots=True)
class Run:
    """What one migration took, over all its processes."""

    seconds: float = 0
    kills: int = 0
    memory: int = 0
    """Largest resident memory of a process, in bytes."""
    log: int = 0
    """Largest size of the write-ahead log, in bytes."""
    disk: int = 0
    """Largest size of the database with its log, in bytes."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transfers", type=int, default=5_000_000, help="size of the ledger (default: 5,000,000)")
    parser.add_argument("--kills", type=int, default=5, help="kills of the second migration (default: 5)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the moments of the kills (default: 1)")
    parser.add_argument("--folder", type=Path, default=HOME / "data", help="where to work (default: data/)")
    wanted = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} processors, Python {platform.python_version()}", flush=True)
    wanted.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="giro-bench-", dir=wanted.folder) as name:
        old = Path(name) / "old" / "banking.db"
        started = time.perf_counter()
        make(old, wanted.transfers)
        print(f"filled in {time.perf_counter() - started:.0f} s", flush=True)
        describe("before", old, wanted.transfers)
        peace = measure(old, Path(name) / "in peace", iter(()))
        report("in peace", peace, wanted.transfers)
        chance = random.Random(wanted.seed)
        longest = peace.seconds / max(wanted.kills, 1)
        moments = iter([chance.random() * longest for _ in range(wanted.kills)])
        report("killed", measure(old, Path(name) / "killed", moments), wanted.transfers)


def make(path: Path, transfers: int) -> None:
    """Fill a database, and bring it to the revision before the migration."""
    settings = load_settings(_env_file=None, data_dir=path.parent, database_url="")
    upgrade(settings, REVISION)
    fill_old_ledger(path, transfers, accounts=ACCOUNTS)
    upgrade(settings, BEFORE)
    _checkpoint(path)


def measure(old: Path, folder: Path, moments: Iterator[float]) -> Run:
    """Migrate a copy of a database. Each process but the last is killed these seconds after it began to write."""
    folder.mkdir()
    path, run = folder / "banking.db", Run()
    shutil.copyfile(old, path)
    for seconds in moments:
        if not _migrate(path, run, seconds):
            break
        run.kills += 1
        print(f"killed {seconds:.1f} s after it began to write; {_moved(path)}", flush=True)
    else:
        assert not _migrate(path, run, float("inf"))
    _checkpoint(path)
    _require_whole(old, path)
    describe("after", path, _count(path))
    shutil.rmtree(folder)
    return run


def _migrate(path: Path, run: Run, seconds: float) -> bool:
    """Run `giro migrate`, and return whether it was killed because it wrote for longer than these seconds."""
    started, writes_since = time.perf_counter(), float("inf")
    log = path.with_name("banking.db-wal")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIRO_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "core.cli", "migrate"],
        cwd=HOME,
        env=environment | {"GIRO_DATA_DIR": str(path.parent), "DATABASE_URL": ""},
    )
    while (status := process.poll()) is None:
        run.memory = max(run.memory, _memory(process.pid))
        size = log.stat().st_size if log.exists() else 0
        run.log, run.disk = max(run.log, size), max(run.disk, size + path.stat().st_size)
        writes_since = min(writes_since, time.perf_counter()) if size else writes_since
        if time.perf_counter() - writes_since > seconds:
            process.send_signal(signal.SIGKILL)
        time.sleep(LOOK_SECONDS)
    run.seconds += time.perf_counter() - started
    assert status in (0, -signal.SIGKILL), status
    return status != 0


def _memory(pid: int) -> int:
    """Return the largest resident memory so far of a process, in bytes; 0 if it has ended."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def _moved(path: Path) -> str:
    with closing(sqlite3.connect(path)) as raw:
        (revision,) = raw.execute("SELECT version_num FROM alembic_version").fetchone()
        if revision == BEFORE:
            return "nothing has moved"
        table = "transfers" if revision == SCHEMA_REVISION else "new_transfers"
        return f"{raw.execute(f'SELECT count(*) FROM {table}').fetchone()[0]} transfers have moved"


def _count(path: Path) -> int:
    with closing(sqlite3.connect(path)) as raw:
        (count,) = raw.execute("SELECT count(*) FROM transfers").fetchone()
        return int(count)


def _checkpoint(path: Path) -> None:
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _require_whole(old: Path, new: Path) -> None:
    """Require that the head of the chain is the one before, and follows from the rows."""
    with closing(sqlite3.connect(old)) as raw:
        (before,) = raw.execute("SELECT hex(hash) FROM blocks ORDER BY height DESC LIMIT 1").fetchone()
    stored, computed = head_of_rows(new)
    assert before.lower() == stored == computed, (before, stored, computed)
    with closing(sqlite3.connect(new)) as raw:
        assert raw.execute("PRAGMA quick_check").fetchall() == [("ok",)]
    print(f"head of the chain before, after, and of the migrated rows: {stored}", flush=True)


def describe(moment: str, path: Path, transfers: int) -> None:
    """Print the size of a database that no process has open."""
    sizes = trees(path)
    unused, file = sizes["anything else"], path.stat().st_size
    parts = ", ".join(
        f"{part} {sum(size for name, size in sizes.items() if name.split(' ')[0] == part) / transfers:.0f}"
        for part in PARTS
    )
    print(
        f"{moment}: {file / 1e6:.0f} MB, {unused / 1e6:.0f} of them unused; {(file - unused) / transfers:.0f} bytes a "
        f"transfer with its legs ({parts})",
        flush=True,
    )


def report(name: str, run: Run, transfers: int) -> None:
    """Print what a migration took."""
    print(
        f"{name}: {run.seconds:.1f} s with {run.kills} kills, {transfers / run.seconds:,.0f} transfers a second; at "
        f"most {run.memory / 1e6:.0f} MB of memory, {run.log / 1e6:.1f} MB of log, {run.disk / 1e6:.0f} MB of disk",
        flush=True,
    )


if __name__ == "__main__":
    main()
