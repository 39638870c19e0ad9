"""Ledgers of an early version, small and large, for tests of migrations."""

import importlib.util
import random
import sqlite3
from contextlib import closing
from hashlib import sha256
from itertools import batched
from pathlib import Path

from alembic import command
from alembic.config import Config

import core
from core.settings import Settings

REVISION = "0006"

LEDGER = """
    INSERT INTO users (id, public_id, email, name, password_hash, role, is_active, token_version, created_at)
    VALUES (2, x'02', 'ada@example.com', NULL, '!', 'customer', 1, 0, 0);
    INSERT INTO accounts (id, public_id, owner_id, account_number, kind, currency, status, balance, reserved,
        overdraft_limit, last_transaction_id, last_transfer_id, created_at) VALUES
        (1, x'11', NULL, '1', 'external', 'EUR', 'active', -100, 0, 0, 1, 1, 0),
        (2, x'12', 2, '2', 'customer', 'EUR', 'active', 70, 10, 0, 3, 6, 0),
        (3, x'13', 2, '3', 'customer', 'EUR', 'active', 30, 0, 0, 4, NULL, 0);
    INSERT INTO transfers (id, public_id, kind, status, from_account_id, to_account_id, amount, currency, description,
        submitted_by, request_id, idempotency_key, fingerprint, answer_version, previous_id, created_at, settled_at,
        failure_code) VALUES
        (1, x'1a000000000000000000000000000001', 'deposit', 'completed', 1, 2, 100, 'EUR', NULL, 1, 'r-1', NULL,
            NULL, 1, NULL, 1000, 2000, NULL),
        (2, x'1a000000000000000000000000000002', 'transfer', 'completed', 2, 3, 30, 'EUR', 'für Käse', 2, 'r-2', 'k',
            x'ff00', 1, NULL, 1000, 2000, NULL),
        (3, x'1a000000000000000000000000000003', 'transfer', 'failed', 2, 3, 90, 'EUR', '', 2, 'r-3', NULL, NULL,
            1, 2, 1001, 2000, 'insufficient_funds'),
        (4, x'1a000000000000000000000000000004', 'transfer', 'pending', 2, 3, 10, 'EUR', NULL, 2, 'r-4', NULL,
            NULL, 1, 3, 1002, NULL, NULL),
        (5, x'1a000000000000000000000000000005', 'transfer', 'cancelled', 2, 3, 20, 'EUR', 'no', 2, 'r-5', 'l',
            x'01', 1, 4, 1003, 3000, NULL),
        (6, x'1a000000000000000000000000000006', 'transfer', 'cancelled', 2, 3, 20, 'EUR', NULL, 2, 'r-6', NULL,
            NULL, 1, 5, 1004, 2999, NULL);
    INSERT INTO transactions (id, transfer_id, account_id, amount, balance_after, posted_at, previous_id) VALUES
        (1, 1, 1, -100, -100, 2000, NULL),
        (2, 1, 2, 100, 100, 2000, NULL),
        (3, 2, 2, -30, 70, 2000, 2),
        (4, 2, 3, 30, 30, 2000, NULL);
"""
"""A small ledger at that revision, with one transfer for everything that can happen to a transfer."""

MADE_AT = 5_000
"""The time when the chain begins, in microseconds since the epoch."""


def make_old_ledger(settings: Settings, content: str = LEDGER) -> None:
    """Make a database at the early revision, and fill it with SQL."""
    upgrade(settings, REVISION)
    with closing(sqlite3.connect(settings.database_path)) as raw:
        raw.executescript(content)


def upgrade(settings: Settings, revision: str) -> None:
    """Bring a database to a revision."""
    config = Config()
    config.set_main_option("script_location", str(Path(core.__file__).parent.parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["settings"] = settings
    command.upgrade(config, revision)


def fill_old_ledger(path: Path, transfers: int, *, accounts: int = 5) -> None:
    """Fill an empty database at the early revision with many transfers, the same rows each time.

    They are between an external account and some customer accounts. Of the last tenth, at most a thousand, some are
    pending and some were cancelled meanwhile.
    """
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("PRAGMA synchronous=OFF")
        (keys,) = raw.execute("SELECT sql FROM sqlite_master WHERE name = 'uq_transfers_idempotency_key'").fetchone()
        raw.execute("DROP INDEX uq_transfers_idempotency_key")  # it is faster to sort the keys at the end
        raw.execute("INSERT INTO users VALUES (2, x'02', 'ada@example.com', NULL, '!', 'customer', 1, 0, 0)")
        book, last = _Book(accounts), transfers - min(transfers // 10, 1000)
        for numbers in batched(range(1, transfers + 1), 10_000):
            orders = [book.order(number, late=number > last) for number in numbers]
            raw.executemany(f"INSERT INTO transfers VALUES ({', '.join('?' * 18)})", orders)
            raw.executemany("INSERT INTO transactions VALUES (?, ?, ?, ?, ?, ?, ?)", book.legs)
            raw.commit()
            book.legs.clear()
        raw.execute(keys)
        raw.executemany(f"INSERT INTO accounts VALUES ({', '.join('?' * 15)})", book.accounts())


class _Book:
    """Makes the rows of a ledger, as if its transfers were settled in the order of acceptance."""

    def __init__(self, accounts: int) -> None:
        self._random = random.Random(accounts)
        self._balances = [0] * (accounts + 1)
        self._reserved = [0] * (accounts + 1)
        self._last_leg: list[int | None] = [None] * (accounts + 1)
        self._last_transfer: list[int | None] = [None] * (accounts + 1)
        self._leg = 0
        self.legs: list[tuple[int | None, ...]] = []

    def order(self, number: int, *, late: bool) -> tuple[object, ...]:
        """Return the row of a transfer, and append its legs. A late one is pending, or was cancelled."""
        customers, chance = len(self._balances) - 1, self._random.random
        payer = int(chance() * (customers + 1))  # the external account is 0
        payee = (payer + 1 + int(chance() * customers)) % (customers + 1)
        amount = 10**12 if payer and number % 40 == 11 else 1 + int(chance() * 99)
        if number <= customers:
            payer, payee, amount = 0, number, 10_000
        at, key = 1_700_000_000_000_000 + number * 1000, f"{self._random.getrandbits(128):036x}"
        status, failure = self._end(number, payer, amount, late)
        ended_at = None if status == "pending" else at + 500 + number % 7
        row = (
            number, (at // 1000 << 80 | 7 << 76 | self._random.getrandbits(72)).to_bytes(16),
            "transfer" if payer and payee else "withdrawal" if payer else "deposit", status, payer + 1, payee + 1,
            amount, "EUR", None if number % 3 else f"Zahlung für {number}", 2, f"{number:036x}",
            key if number % 5 else None, key[-16:].encode() if number % 5 else None, 1, self._last_transfer[payer], at,
            ended_at, failure,
        )  # fmt: skip
        self._last_transfer[payer] = number
        if status == "completed":
            self._post(number, payer, -amount, ended_at)
            self._post(number, payee, amount, ended_at)
        return row

    def accounts(self) -> list[tuple[object, ...]]:
        """Return the rows of the accounts."""
        return [
            (
                account + 1, account.to_bytes(16), 2 if account else None, str(account),
                "customer" if account else "external", "EUR", "active", None, self._balances[account],
                self._reserved[account], 0, self._last_leg[account], self._last_transfer[account], 0, None,
            )
            for account in range(len(self._balances))
        ]  # fmt: skip

    def _end(self, number: int, payer: int, amount: int, late: bool) -> tuple[str, str | None]:
        """Return how a transfer ended, and why it failed."""
        lacks_funds = payer > 0 and self._balances[payer] - self._reserved[payer] < amount
        if number % 50 == 7 or (late and (lacks_funds or number % 3 == 0)):
            return "cancelled", None
        if lacks_funds:
            return "failed", "insufficient_funds"
        if late:
            self._reserved[payer] += amount
            return "pending", None
        return "completed", None

    def _post(self, number: int, account: int, amount: int, at: int | None) -> None:
        self._leg += 1
        self._balances[account] += amount
        self.legs.append((self._leg, number, account + 1, amount, self._balances[account], at, self._last_leg[account]))
        self._last_leg[account] = self._leg


def head_of_rows(path: Path) -> tuple[str, str]:
    """Return the hash of the last block, as it is stored and as it follows from the rows of the newest schema.

    The migration that began the chain computes the blocks, so this only fits a ledger that ends there.
    """
    location = Path(core.__file__).parents[1] / "migrations" / "versions" / "0007_blocks.py"
    spec = importlib.util.spec_from_file_location("blocks", location)
    assert spec is not None
    assert spec.loader is not None
    began = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(began)
    with closing(sqlite3.connect(path)) as raw:
        blocks = raw.execute("SELECT * FROM blocks ORDER BY height").fetchall()
        head = bytes(32)
        for height, kind, first_leg, leg_count, first, last, ending_count, made_at, _ in blocks:
            legs, endings = sha256(), sha256()
            for leg in raw.execute(LEGS, (first_leg, first_leg + leg_count)):
                legs.update(began.PACKED_LEG.pack(*leg[:6], leg[6] or 0))
            for ended in raw.execute(ENDED, (first, last)):
                endings.update(began._packed_ending(*ended))
            figures = (height, first_leg, leg_count, first, last, ending_count, made_at)
            body = legs.digest() + endings.digest()
            head = sha256(began.PACKED_HEADER.pack(began.TAG, head, kind.encode(), *figures, body)).digest()
    return blocks[-1][-1].hex(), head.hex()


LEGS = """
    SELECT id, transfer_id, account_id, amount, balance_after, posted_at, previous_id FROM transactions
    WHERE id >= ? AND id < ? ORDER BY id
"""
ENDED = """
    SELECT status, ended_at, failure_code, id, public_id, kind, from_account_id, to_account_id, amount, currency,
        description, submitted_by, request_id, idempotency_key, fingerprint, answer_version, previous_id, created_at
    FROM transfers JOIN endings USING (id) WHERE id BETWEEN ? AND ? ORDER BY id
"""
