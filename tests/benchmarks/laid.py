"""Ledgers of any size, filled in this process by the project's own services, as by transfers over HTTP.

Four of five transfers come in batches, whose lines have no key. One in five comes alone, with its own random key.
"""

import random
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from uuid import UUID, uuid4

from rich.console import Console
from rich.progress import track

from core.clock import now_us, to_datetime
from core.domain.batches import BatchMode, BatchRequest
from core.domain.transfers import TransferRequest
from core.security.passwords import Passwords
from core.services import verification
from core.services.transfers import batches
from core.storage.sqlite.engine import Database
from core.storage.sqlite.upkeep import checkpoint
from core.storage.unit_of_work import unit_of_work
from tests.benchmarks.chain import Ledger
from tests.builders import BOUNDS, accept, settle_all, transfer_request
from tests.flows.stack import PASSWORD

SHARE = 5000
"""Number of transfers accepted and settled at a time."""
ALONE = 1000
"""Number of those that come in separate requests."""
APART = 25
"""One transfer in this many involves the account whose legs are far apart."""

terminal = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Ground:
    """A filled ledger: a data folder with one user who has many accounts."""

    folder: Path
    email: str
    accounts: tuple[str, ...]

    @property
    def dense(self) -> str:
        """The account with a leg of each of the first and of the last `depth` transfers."""
        return self.accounts[0]

    @property
    def apart(self) -> str:
        """The account with a leg of one in 25 of the other transfers."""
        return self.accounts[1]

    def copy(self, folder: Path) -> "Ground":
        """Copy the current ledger for a separate service. No process may have it open."""
        folder.mkdir(parents=True)
        shutil.copytree(self.folder / "data", folder / "data", ignore=shutil.ignore_patterns("run"))
        return Ground(folder, self.email, self.accounts)


class Layer:
    """Fills one ledger with transfers until it is closed."""

    def __init__(self, folder: Path, *, depth: int, total: int) -> None:
        """`total` is the final number of transfers; the account `dense` is in the first and last `depth` of them."""
        folder.mkdir(parents=True)
        self._ledger = Ledger(folder / "data", password_hash=Passwords(4).hash(PASSWORD))
        _verify(self._ledger.database)
        self._accounts = self._ledger.accounts
        self._random = random.Random(depth)
        self._laid, self._depth, self._total = 0, depth, total
        self.ground = Ground(folder, self._ledger.owner.email, tuple(str(account) for account in self._accounts))

    def lay(self, until: int) -> None:
        """Accept and settle transfers up to this number; the folder can be copied afterwards."""
        steps = range(self._laid, until, SHARE)
        shown = track(steps, "transfers", console=terminal, transient=True, disable=not terminal.is_terminal)
        for _ in shown:
            self._lay(min(SHARE, until - self._laid))
        checkpoint(self._ledger.database)
        self._ledger.database.close()

    def _lay(self, count: int) -> None:
        orders = [self._order(self._laid + number) for number in range(count)]
        self._accept_together(orders[ALONE:])
        accept(self._ledger.database, *(_alone(order) for order in orders[:ALONE]))
        assert settle_all(self._ledger.database) == count
        self._laid += count

    def _accept_together(self, orders: Sequence[TransferRequest]) -> None:
        if not orders:
            return
        key = str(uuid4())
        request = BatchRequest(
            mode=BatchMode.INDEPENDENT,
            submitted_by=self._ledger.owner.id,
            transfers=orders,
            idempotency_key=key,
            fingerprint=_digest(key),
        )
        with unit_of_work(self._ledger.database) as connection:
            accepted = batches.accept(connection, request, BOUNDS)
        assert accepted.accepted == len(orders)

    def _order(self, number: int) -> TransferRequest:
        payer, payee = self._sides(number)
        return transfer_request(
            submitted_by=self._ledger.owner.id,
            payer=payer,
            payee=payee,
            amount=self._random.randint(1, 99),
            request_id=str(UUID(int=number)),
        )

    def _sides(self, number: int) -> list[UUID]:
        dense, apart, *others = self._accounts
        if number < self._depth or number >= self._total - self._depth:
            return self._random.sample([dense, self._random.choice(others)], 2)
        if number % APART == 0:
            return self._random.sample([apart, self._random.choice(others)], 2)
        return self._random.sample(others, 2)


def _alone(order: TransferRequest) -> TransferRequest:
    key = str(uuid4())
    return order._replace(idempotency_key=key, fingerprint=_digest(key))


def _digest(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=16).digest()


def _verify(database: Database) -> None:
    """Verify the ledger and store the verification, so that a service does not start with it."""
    started_at = to_datetime(now_us())
    report = verification.verify(database)
    assert report.holds, report.breaches
    with unit_of_work(database) as connection:
        verification.keep(connection, report, started_at=started_at)
