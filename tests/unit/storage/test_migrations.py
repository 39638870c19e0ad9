"""Migrations of a database with data: they always have the same result as when they were written."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from core.cli.service import prepare
from core.processes.database_hold import alone
from core.services.verification import verify
from core.settings import Settings
from core.storage.engines import SCHEMA_REVISION
from core.storage.sqlite.engine import Database
from tests.builders import rows
from tests.old_ledger import LEDGER, MADE_AT, make_old_ledger, upgrade
from tests.tampering import recompute_chain

CHAIN = [
    (0, "genesis", 1, 4, 1, 3, 3, MADE_AT, "354c4e795ba78e6a4f7e825aea45eb94488bd14346077da71d643f73d629f1d1"),
    (1, "cancellation", 5, 0, 5, 5, 1, 3000, "f5b7970a4b1e6893cf7b09199cda0c9389ff4084d7c54e1acedc84b8c48abcdd"),
    (2, "cancellation", 5, 0, 6, 6, 1, 2999, "fc7479eb27c2004490d2bd91ae2eb984af6758278ba8e4f5d83a404067651b59"),
]
"""The result of revision 0007 for that ledger. It must never change: existing backups were upgraded to these bytes."""


BUSY = """
    INSERT INTO accounts (id, public_id, owner_id, account_number, kind, currency, status, balance, reserved,
        overdraft_limit, last_transaction_id, last_transfer_id, created_at) VALUES
        (1, x'11', NULL, '1', 'external', 'EUR', 'active', 0, 0, 0, 600, 299, 0),
        (2, x'12', 1, '2', 'customer', 'EUR', 'active', 0, 0, 0, 599, 300, 0);
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 300)
    INSERT INTO transfers (id, public_id, kind, status, from_account_id, to_account_id, amount, currency, submitted_by,
        request_id, answer_version, previous_id, created_at, settled_at)
    SELECT n, randomblob(16), iif(n % 2, 'deposit', 'withdrawal'), 'completed', 2 - n % 2, 1 + n % 2, 1000000000000000,
        'EUR', 1, 'r', 1, iif(n > 2, n - 2, NULL), n, n FROM numbers;
    INSERT INTO transactions (id, transfer_id, account_id, amount, balance_after, posted_at, previous_id)
    SELECT 2 * id - 1, id, from_account_id, -amount, iif(id % 2, -amount, 0), id, iif(id > 1, 2 * id - 2, NULL)
    FROM transfers UNION ALL
    SELECT 2 * id, id, to_account_id, amount, iif(id % 2, amount, 0), id, iif(id > 1, 2 * id - 3, NULL) FROM transfers;
"""
"""A ledger at revision 0006: the largest amount goes back and forth 300 times."""


@pytest.fixture
def upgraded(settings: Settings, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database with the small ledger or another one, brought from revision 0006 to the newest."""
    make_old_ledger(settings, getattr(request, "param", LEDGER))
    monkeypatch.setattr(time, "time_ns", lambda: MADE_AT * 1000)
    upgrade(settings, "head")
    database = Database(settings)
    yield database
    database.close()


def chain(database: Database) -> list[tuple[object, ...]]:
    found = rows(database, "SELECT * FROM blocks ORDER BY height")
    return [tuple(value.hex() if isinstance(value, bytes) else value for value in row.values()) for row in found]


def test_an_upgrade_logs_each_migration_that_it_ran(settings: Settings) -> None:
    upgrade(settings, "0010")
    with capture_logs() as lines:
        upgrade(settings, "head")
    steps, (last,) = lines[:-1], lines[-1:]
    revisions = [line["revision"] for line in steps]
    assert {line["event"] for line in steps} == {"migration_ran"}
    assert (revisions[:2], revisions[-1]) == (["0011", "0012"], SCHEMA_REVISION)
    assert steps[1]["title"] == "Large documents, which a job makes"
    assert 0 < sum(line["seconds"] for line in steps) <= last["seconds"] + 0.01
    told = {key: value for key, value in last.items() if key not in ("seconds", "log_level")}
    after = {"before": "0010", "after": SCHEMA_REVISION, "migrations": len(steps)}
    assert told == {"event": "schema_migrated"} | after


def test_an_upgrade_without_work_logs_that(settings: Settings, database: Database) -> None:
    with capture_logs() as lines:
        upgrade(settings, "head")
        prepare(settings, hold=alone)
    assert [(line["event"], line["revision"]) for line in lines] == [("schema_current", SCHEMA_REVISION)] * 2


def test_a_failed_upgrade_does_not_log_that_it_is_done(settings: Settings) -> None:
    upgrade(settings, "0010")
    with closing(sqlite3.connect(settings.database_path)) as raw:
        raw.execute("CREATE TABLE documents (id INTEGER)")  # 0012 cannot make it any more
    with capture_logs() as lines, pytest.raises(DBAPIError, match="already exists"):
        upgrade(settings, "head")
    assert [(line["event"], line.get("revision")) for line in lines] == [("migration_ran", "0011")]
    assert Database(settings).schema_revision() == "0010"


def test_an_upgrade_begins_the_chain_with_the_same_bytes_at_any_time(upgraded: Database) -> None:
    assert chain(upgraded) == CHAIN
    assert verify(upgraded).breaches == []


def test_the_blocks_of_an_upgrade_match_those_of_the_code(upgraded: Database) -> None:
    written = chain(upgraded)
    recompute_chain(upgraded)
    assert chain(upgraded) == written


@pytest.mark.parametrize("upgraded", [BUSY], indirect=True)
def test_an_upgrade_adds_up_the_legs_of_each_account(upgraded: Database) -> None:
    assert verify(upgraded).breaches == []
    found = rows(upgraded, "SELECT leg_count, credits_high, credits_low FROM accounts")
    assert [tuple(row.values()) for row in found] == [(300, 150_000_000, 0)] * 2
    found = rows(
        upgraded, "SELECT account_id, leg_count, transaction_id FROM milestones ORDER BY account_id, leg_count"
    )
    assert [tuple(row.values()) for row in found] == [(1, 128, 256), (1, 256, 512), (2, 128, 255), (2, 256, 511)]


def test_an_upgrade_writes_how_each_transfer_ended(upgraded: Database) -> None:
    found = rows(upgraded, "SELECT id, status, ended_at, failure_code, payer_id FROM endings ORDER BY id")
    assert [tuple(row.values()) for row in found] == [
        (1, "completed", 2000, None, None),
        (2, "completed", 2000, None, None),
        (3, "failed", 2000, "insufficient_funds", 2),
        (5, "cancelled", 3000, None, 2),
        (6, "cancelled", 2999, None, 2),
    ]


def test_an_upgrade_counts_and_adds_up_what_is_pending(upgraded: Database) -> None:
    found = rows(
        upgraded,
        "SELECT account_id, reserved_count, reserved_high, reserved_low, last_transfer_id FROM reservations ORDER BY 1",
    )
    assert [tuple(row.values()) for row in found] == [(1, 0, 0, 0, 1), (2, 1, 0, 10, 6), (3, 0, 0, 0, None)]
    totals = "released_count, released_high, released_low, leg_count, credits_low"
    found = rows(upgraded, f"SELECT {totals} FROM accounts ORDER BY id")
    assert [tuple(row.values()) for row in found] == [(0, 0, 0, 1, 0), (0, 0, 0, 2, 100), (0, 0, 0, 1, 30)]


def test_an_upgrade_opens_both_lanes_after_the_newest_rows(upgraded: Database) -> None:
    found = rows(upgraded, "SELECT name, next_id, newest_at, watermark FROM lanes ORDER BY name")
    assert [tuple(row.values()) for row in found] == [("accept", 7, 1004, 0), ("settle", 5, 2000, 3)]
