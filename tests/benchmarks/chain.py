"""The cost of the chain of blocks in settlement, and the speed of verification: `make bench-chain`.

The same code in one process settles two ledgers; for one of them it hashes nothing. Both settle the same number of
transfers, one after the other, and the order changes from pair to pair, so that noise of the machine affects both. Each
pair gives one ratio. At the end the whole chained ledger is verified.
"""

import argparse
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from core.cli import apply_migrations
from core.domain.blocks import Ending, LegRow, Sealer
from core.domain.transfers import TransferRequest
from core.services import verification
from core.settings import load_settings
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from core.telemetry.logging import configure_logging
from tests.builders import accept, add_user, deposit_request, open_account, settle_all, transfer_request

ACCOUNTS = 1000
FUNDS = 10**12
GROUP = 500


@dataclass(frozen=True, slots=True)
class Settled:
    """The cost of settling one round, per transfer in microseconds."""

    wall_us: float
    cpu_us: float


class Ledger:
    """A separate ledger with funded accounts, which makes transfers to settle on request."""

    def __init__(self, folder: Path, password_hash: str = "no hash at all") -> None:
        with mock.patch.dict(os.environ, {"GIRO_DATA_DIR": str(folder), "GIRO_LOG_LEVEL": "error"}):
            settings = load_settings(_env_file=None)
            configure_logging(settings, process="bench")
            apply_migrations()
        self.database = Database(settings)
        self._random = random.Random(folder.name)
        self._submitted = 0
        with unit_of_work(self.database) as connection:
            self.owner = add_user(connection, password_hash=password_hash)
            self.accounts = [open_account(connection, self.owner, most=ACCOUNTS) for _ in range(ACCOUNTS)]
        accept(self.database, *(deposit_request(account, FUNDS) for account in self.accounts))
        settle_all(self.database)

    def submit(self, count: int) -> None:
        """Accept this many transfers between random accounts."""
        for done in range(0, count, GROUP):
            accept(self.database, *(self._order() for _ in range(min(GROUP, count - done))))

    def orders(self, count: int) -> list[TransferRequest]:
        """Return this many random orders."""
        return [self._order() for _ in range(count)]

    def _order(self) -> TransferRequest:
        self._submitted += 1
        payer, payee = self._random.sample(self.accounts, 2)
        return transfer_request(
            submitted_by=self.owner.id,
            payer=payer,
            payee=payee,
            amount=self._random.randint(1, 1000),
            idempotency_key=f"transfer-{self._submitted}",
            description=f"Invoice {self._submitted}",
        )

    def settle(self, batch: int) -> Settled:
        """Settle all pending transfers, and return the cost."""
        wall, cpu = time.perf_counter(), time.process_time()
        count = settle_all(self.database, batch)
        return Settled((time.perf_counter() - wall) / count * 1e6, (time.process_time() - cpu) / count * 1e6)


@contextmanager
def unchained() -> Iterator[None]:
    """Turn off the hashing of legs and endings inside this context. Each unit of work still writes one block's row."""

    def count_legs(sealer: Sealer, legs: Sequence[LegRow]) -> None:
        sealer.leg_count += len(legs)

    def count_endings(sealer: Sealer, endings: Sequence[Ending]) -> None:
        sealer.ending_count += len(endings)

    with mock.patch.object(Sealer, "add_legs", count_legs), mock.patch.object(Sealer, "add_endings", count_endings):
        yield


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10, help="pairs of rounds (default: 10)")
    parser.add_argument("--transfers", type=int, default=10_000, help="transfers of a round (default: 10,000)")
    parser.add_argument("--batch", type=int, default=1000, help="transfers of a unit of work (default: 1,000)")
    options = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} processors, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(prefix="giro-bench-") as folder:
        chained, bare = Ledger(Path(folder) / "chained"), Ledger(Path(folder) / "bare")
        compare(chained, bare, options.pairs, options.transfers, options.batch)
        measure_verification(chained, options.pairs)
        chained.database.close()
        bare.database.close()


def compare(chained: Ledger, bare: Ledger, pairs: int, transfers: int, batch: int) -> None:
    """Let both ledgers settle in turns, and print the cost of the chain."""
    found = []
    for number in range(-1, pairs):
        rounds = {}
        for ledger in (chained, bare)[:: 1 if number % 2 else -1]:
            ledger.submit(transfers)
            with unchained() if ledger is bare else nullcontext():
                rounds[ledger] = ledger.settle(batch)
        if number >= 0:  # the first pair warms up
            found.append((rounds[chained], rounds[bare]))
    show("settling, time", "µs a transfer", [(one.wall_us, other.wall_us) for one, other in found])
    show("settling, processor time", "µs a transfer", [(one.cpu_us, other.cpu_us) for one, other in found])


def show(what: str, unit: str, pairs: Sequence[tuple[float, float]]) -> None:
    """Print the medians with and without the chain, and the ratios."""
    chained, bare = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = [one / other for one, other in pairs]
    print(
        f"{what}: {chained:.1f} {unit} with the chain, {bare:.1f} without; with to without: median "
        f"{statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}, n = {len(ratios)}",
        flush=True,
    )


def measure_verification(ledger: Ledger, rounds: int) -> None:
    """Verify the whole ledger `rounds` times, and print the verified legs per second."""
    rates = []
    for _ in range(rounds):
        started = time.perf_counter()
        report = verification.verify(ledger.database)
        rates.append(report.transactions / (time.perf_counter() - started))
        assert report.holds, report.breaches
    print(
        f"verifying {report.transactions} legs in {report.blocks} blocks: median {statistics.median(rates):.0f} legs "
        f"a second, {min(rates):.0f} to {max(rates):.0f}, n = {rounds}"
    )


if __name__ == "__main__":
    main()
