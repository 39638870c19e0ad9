"""Opens and verifies the files after a power cut with the service's own code, and reports what is wrong."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any
from uuid import UUID

from core.services import verification
from core.services.transfers import settlement
from core.settings import load_settings
from core.storage.sqlite import upkeep
from core.storage.sqlite.engine import Database
from tests.builders import WHOLE_TRANSFERS
from tests.faults.power.disk import Files
from tests.faults.power.record import DATABASE, Answer, Ending

_TRANSFERS = f"""SELECT id, public_id, kind, from_account_id, to_account_id, amount, request_id, created_at,
    status, settled_at, failure_code FROM {WHOLE_TRANSFERS} ORDER BY id"""
_LEGS = "SELECT id, transfer_id, account_id, amount, balance_after, posted_at FROM transactions ORDER BY id"
_BLOCKS = "SELECT height, kind, first_sequence, last_sequence, made_at, hash FROM blocks ORDER BY height"


@dataclass(frozen=True, slots=True)
class Ledger:
    """The content of a database, in order."""

    accepted: list[tuple[Any, ...]] = field(default_factory=list)
    """Transfers as they were ordered, without their outcomes."""
    endings: dict[UUID, Ending | None] = field(default_factory=dict)
    """Their outcomes; None while pending."""
    legs: list[tuple[Any, ...]] = field(default_factory=list)
    blocks: list[tuple[Any, ...]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Why the database does not open, or the findings of its verification."""


@dataclass(slots=True)
class Told:
    """What clients have been told so far."""

    accepted: set[UUID] = field(default_factory=set)
    ended: dict[UUID, Ending] = field(default_factory=dict)

    def hear(self, answer: Answer) -> None:
        """Add an answer."""
        if answer.accepted:
            self.accepted.add(answer.id)
        if answer.ended:
            self.ended[answer.id] = answer.ended


class Examiner:
    """Opens the states after cuts one by one, in its own folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._database = Database(load_settings(_env_file=None, data_dir=folder, database_url=""))
        assert self._database.path == folder / DATABASE, (
            "the environment names another database; do not cut the power of that one"
        )
        self._known: dict[bytes, Ledger] = {}

    @property
    def opened(self) -> int:
        """Number of opened states; equal states are opened only once."""
        return len(self._known)

    def look(self, files: Files) -> Ledger:
        """Open a database as the service does at its start, verify and read it."""
        key = _digest(files)
        if key not in self._known:
            self._put(files)
            try:
                self._known[key] = self._read()
            except Exception as error:
                self._known[key] = Ledger(wrong=[f"does not open: {type(error).__name__}: {error}"])
        return self._known[key]

    def go_on(self, files: Files) -> Ledger:
        """Let the service continue with a state: settle pending transfers, checkpoint the log, verify and read it."""
        self._put(files)
        try:
            settlement.settle_pending(self._database, batch=100, lock_ms=100)
            upkeep.checkpoint(self._database)
            return self._read()
        finally:
            self._database.close()

    def _put(self, files: Files) -> None:
        for path in self._folder.glob(f"{DATABASE}*"):
            path.unlink()
        for name, content in files.items():
            (self._folder / name).write_bytes(content)

    def _read(self) -> Ledger:
        self._database.require_schema()
        report = verification.verify(self._database)
        with self._database.reader.connect() as connection:
            transfers, legs, blocks = (
                [tuple(row) for row in connection.exec_driver_sql(query)] for query in (_TRANSFERS, _LEGS, _BLOCKS)
            )
        return Ledger(
            [row[:-3] for row in transfers],
            {UUID(bytes=row[1]): None if row[-3] == "pending" else row[-3:] for row in transfers},
            legs,
            blocks,
            [f"{breach.rule}: {breach.detail}" for breach in report.breaches],
        )


def _digest(files: Files) -> bytes:
    digest = blake2b(digest_size=16)
    for name in sorted(files):
        digest.update(f"{name} {len(files[name])} ".encode())
        digest.update(files[name])
    return digest.digest()


# --- the checks --------------------------------------------------------------------------------------------------


def opens_and_verifies(left: Ledger, _whole: Ledger, _told: Told) -> list[str]:
    """The database opens and verifies."""
    return left.wrong


def every_transfer_answered_202_exists(left: Ledger, _whole: Ledger, told: Told) -> list[str]:
    """Each transfer that a client was told is accepted exists."""
    return [f"{transfer} was answered 202 and is lost" for transfer in sorted(told.accepted - left.endings.keys())]


def every_transfer_reported_as_ended_has_ended(left: Ledger, _whole: Ledger, told: Told) -> list[str]:
    """Each transfer that a client was told has ended, has ended with the same status, time and reason."""
    return [
        f"{transfer} was said to be {ending}, but is {left.endings.get(transfer, 'lost')}"
        for transfer, ending in told.ended.items()
        if left.endings.get(transfer) != ending
    ]


def rows_are_a_prefix(left: Ledger, whole: Ledger, _told: Told) -> list[str]:
    """Transfers, legs and blocks are a prefix of those of the whole run, without a gap."""
    found = [
        f"{what} are not a prefix: {len(some)} of {len(every)}"
        for what, some, every in (
            ("transfers", left.accepted, whole.accepted),
            ("legs", left.legs, whole.legs),
            ("blocks", left.blocks, whole.blocks),
        )
        if some != every[: len(some)]
    ]
    sequences = [row[0] for row in left.accepted]
    return found + [f"sequences have a gap: {sequences}"] * (sequences != list(range(1, len(sequences) + 1)))


def settled_transfers_are_a_prefix(left: Ledger, whole: Ledger, _told: Told) -> list[str]:
    """Transfers settle in the order of acceptance, and end as they did in the whole run."""
    found = [
        f"{transfer} is {ending}, and ended as {whole.endings.get(transfer)}"
        for transfer, ending in left.endings.items()
        if ending is not None and ending != whole.endings.get(transfer)
    ]
    endings = list(left.endings.values())
    first = endings.index(None) if None in endings else len(endings)
    late = [ending for ending in endings[first:] if ending is not None and ending[0] != "cancelled"]
    return found + [f"{len(late)} have settled before transfer {first + 1}"] * bool(late)


type Check = Callable[[Ledger, Ledger, Told], list[str]]

CHECKS: tuple[Check, ...] = (
    opens_and_verifies,
    every_transfer_answered_202_exists,
    every_transfer_reported_as_ended_has_ended,
    rows_are_a_prefix,
    settled_transfers_are_a_prefix,
)


def judge(left: Ledger, whole: Ledger, told: Told, checks: Iterable[Check] = CHECKS) -> dict[str, list[str]]:
    """Return the findings about a state after a cut, by check; `whole` is the state without the cut."""
    return {check.__name__: found for check in checks if (found := check(left, whole, told))}
