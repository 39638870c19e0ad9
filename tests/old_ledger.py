"""A small ledger of an early version, for tests of migrations."""

import sqlite3
from contextlib import closing
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
