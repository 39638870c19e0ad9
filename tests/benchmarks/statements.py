"""The effect of making a month's statements on concurrent transfers: `make bench-statements`.

It fills a database with accounts and a past month, and starts the service on two copies of it in turns: in one all
statements are made already, in the other all are due. Both settle transfers at the same rate, and each transfer is
timed from its 202 to the answer that it has ended. The rate of the statement run comes from its record in the
database.
"""

import argparse
import asyncio
import os
import platform
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import core.clock
from core.cli import apply_migrations
from core.clock import to_us
from core.domain.statements import Period
from core.services.statements import making
from core.settings import Settings, load_settings
from core.storage.sqlite.engine import Database
from core.storage.sqlite.upkeep import checkpoint
from core.storage.unit_of_work import unit_of_work
from core.telemetry.logging import configure_logging
from tests import builders
from tests.benchmarks.service import at_a_rate, people, quantile
from tests.flows.stack import Stack
from tests.unthrottled import UNTHROTTLED

GROUP = 500
"""Number of transfers accepted in one unit of work while the database is filled."""


def fill(settings: Settings, accounts: int, transfers: int) -> None:
    """Open accounts and make transfers between them, all in the middle of last month."""
    month = Period.of(datetime.now(UTC), UTC).preceding
    moment = to_us(datetime(month.year, month.month, 15, tzinfo=UTC)) * 1000
    core.clock.time = SimpleNamespace(time_ns=lambda: moment)  # type: ignore[assignment]
    try:
        database = Database(settings)
        with unit_of_work(database) as connection:
            owner = builders.add_user(connection)
            opened = [builders.open_account(connection, owner, most=accounts) for _ in range(accounts)]
        _move_money(database, owner, opened, transfers)
        checkpoint(database)
        database.close()
    finally:
        core.clock.time = time


def _move_money(database: Database, owner: builders.Person, opened: list[UUID], transfers: int) -> None:
    builders.accept(database, *(builders.deposit_request(account, 10**9) for account in opened))
    builders.settle_all(database)
    for first in range(0, transfers, GROUP):
        builders.accept(
            database,
            *(
                builders.transfer_request(
                    submitted_by=owner.id,
                    payer=opened[number % len(opened)],
                    payee=opened[(number * 7 + 1) % len(opened)],
                    description="for the benchmark",
                )
                for number in range(first, min(first + GROUP, transfers))
                if number % len(opened) != (number * 7 + 1) % len(opened)
            ),
        )
        builders.settle_all(database)


def make_statements(settings: Settings) -> float:
    """Make every due statement in this process, and return the rate per second."""
    database = Database(settings)
    begun, made = time.perf_counter(), 0
    with unit_of_work(database) as connection:
        making.close_months(connection, settings.zone, group=settings.statement_group)
    while groups := _undone(database):
        made += sum(making.make_group(database, settings.bank, group) for group in groups)
    took = time.perf_counter() - begun
    checkpoint(database)
    database.close()
    return made / took


def _undone(database: Database) -> list[int]:
    with database.reader.connect() as connection:
        return list(connection.exec_driver_sql("SELECT id FROM statement_groups WHERE done_at IS NULL").scalars())


def serve(template: Path, count: int, rate: float) -> tuple[list[float], tuple[int, float] | None]:
    """Start a service on a copy of a database, and time transfers; also return the statements made, and their time."""
    with tempfile.TemporaryDirectory(prefix="giro-bench-") as folder:
        stack = Stack(Path(folder), measured=False, **UNTHROTTLED)
        stack.data.mkdir()
        shutil.copy(template, stack.data / "banking.db")
        try:
            stack.start()
            # The jobs worker is stopped until the transfers start, so that no statement is made earlier.
            jobs = stack.pid_of("jobs")
            os.kill(jobs, signal.SIGSTOP)
            payers = people(stack, 8)
            os.kill(jobs, signal.SIGCONT)
            times = asyncio.run(at_a_rate(stack.port, payers, count, rate=rate))
            assert stack.giro("verify").returncode == 0
            return times, _run(stack)
        finally:
            stack.close()


def _run(stack: Stack) -> tuple[int, float] | None:
    settings = load_settings(_env_file=None, data_dir=stack.data)
    database = Database(settings)
    with database.reader.connect() as connection:
        run = connection.exec_driver_sql(
            "SELECT r.statements, (r.finished_at - min(s.made_at)) / 1e6 FROM statement_runs r "
            "JOIN statements s ON s.run_id = r.id"
        ).first()
    database.close()
    return (run[0], run[1]) if run and run[1] is not None else None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, default=10_000, help="accounts of the month (default: 10000)")
    parser.add_argument("--transfers", type=int, default=100_000, help="transfers of the month (default: 100000)")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions of each figure (default: 5)")
    parser.add_argument("--rate", type=float, default=40, help="transfers a second during the run (default: 40)")
    parser.add_argument("--count", type=int, default=120, help="transfers timed in a round (default: 120)")
    options = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} processors, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(prefix="giro-bench-") as folder:
        measure(Path(folder), options)


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Fill the two databases, and serve them in turns."""
    os.environ["GIRO_DATA_DIR"] = str(folder / "due")
    settings = load_settings(_env_file=None, log_level="error")
    configure_logging(settings, process="benchmark")
    apply_migrations()
    begun = time.perf_counter()
    fill(settings, options.accounts, options.transfers)
    print(f"{options.accounts} accounts, {options.transfers} transfers, filled in {time.perf_counter() - begun:.0f} s")
    done = load_settings(_env_file=None, data_dir=folder / "done")
    done.data_dir.mkdir()
    shutil.copy(settings.database_path, done.database_path)
    print(f"statements made with nothing else to do: {make_statements(done):.0f}/s")
    everything: dict[str, list[float]] = {"none due": [], "all due": []}
    for _ in range(options.rounds):
        for name, template in (("none due", done.database_path), ("all due", settings.database_path)):
            times, run = serve(template, options.count, options.rate)
            everything[name] += times
            show(name, options.rate, times)
            if name == "all due" and run:
                print(f"  {run[0]} statements in {run[1]:.1f} s: {run[0] / run[1]:.0f}/s")
    for name, times in everything.items():
        show(f"all rounds, {name}", options.rate, times)


def show(name: str, rate: float, times: Sequence[float]) -> None:
    """Print the times of transfers."""
    print(
        f"{name}: accepted → completed at {rate:.0f}/s: median {statistics.median(times):.1f} ms, "
        f"p99 {quantile(times, 0.99):.1f} ms, n = {len(times)}"
    )


if __name__ == "__main__":
    main()
