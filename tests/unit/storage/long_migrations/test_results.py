"""What a long migration makes of a ledger."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from core.services.verification import verify
from core.settings import Settings
from core.storage.sqlite import schema
from core.storage.sqlite.engine import Database
from tests.old_ledger import head_of_rows, upgrade
from tests.tampering import unguarded
from tests.unit.storage.long_migrations.ledgers import TRANSFERS, read

OLD = "SELECT id, status, settled_at, failure_code, from_account_id FROM transfers ORDER BY id"
NEW = """
    SELECT id, ifnull(status, 'pending'), ended_at, failure_code, from_account_id, payer_id
    FROM transfers LEFT JOIN endings USING (id) ORDER BY id
"""
TERMS = (
    "SELECT id, public_id, kind, from_account_id, to_account_id, amount, currency, description, submitted_by, "
    "request_id, idempotency_key, fingerprint, answer_version, previous_id, created_at FROM transfers ORDER BY id"
)


@pytest.mark.usefixtures("small_chunks")
def test_every_transfer_keeps_its_terms_and_has_the_ending_that_it_had(settings: Settings, ledger: Path) -> None:
    old, terms = read(ledger, OLD), read(ledger, TERMS)
    assert {row[1] for row in old} == {"pending", "completed", "failed", "cancelled"}
    upgrade(settings, "head")
    assert read(ledger, TERMS) == terms
    expected = [(*row, row[4] if row[1] in ("failed", "cancelled") else None) for row in old]
    assert read(ledger, NEW) == expected


@pytest.mark.usefixtures("small_chunks")
def test_every_account_keeps_its_balance_and_what_is_reserved(settings: Settings, ledger: Path) -> None:
    kept = "id, balance, overdraft_limit, last_transaction_id, leg_count, credits_high, credits_low"
    before = read(ledger, f"SELECT {kept} FROM accounts ORDER BY id")
    sums = "SELECT id, pending_count, reserved, last_transfer_id FROM accounts ORDER BY id"
    reserved = read(ledger, sums)
    assert sum(row[1] for row in reserved if isinstance(row[1], int)) > 10
    upgrade(settings, "head")
    assert read(ledger, f"SELECT {kept} FROM accounts ORDER BY id") == before
    halves = "account_id, reserved_count, reserved_high * 1000000000 + reserved_low, last_transfer_id"
    assert read(ledger, f"SELECT {halves} FROM reservations ORDER BY account_id") == reserved
    assert read(ledger, "SELECT DISTINCT released_count, released_high, released_low FROM accounts") == [(0, 0, 0)]


@pytest.mark.usefixtures("small_chunks")
def test_what_is_reserved_is_stored_in_two_halves(settings: Settings, ledger: Path) -> None:
    with unguarded(ledger) as raw:
        raw.execute("UPDATE accounts SET reserved = 4000000000000000007 WHERE id = 2")
    upgrade(settings, "head")
    found = read(ledger, "SELECT reserved_high, reserved_low FROM reservations WHERE account_id = 2")
    assert found == [(4_000_000_000, 7)]


@pytest.mark.usefixtures("small_chunks")
def test_both_lanes_continue_after_the_newest_transfer_and_the_newest_leg(settings: Settings, ledger: Path) -> None:
    assert read(ledger, "SELECT min(id) FROM transfers WHERE status = 'pending'") == [(208,)]
    assert read(ledger, "SELECT max(id), max(created_at) FROM transfers") == [(230, 1_700_000_000_230_000)]
    assert read(ledger, "SELECT max(id), max(posted_at) FROM transactions") == [(394, 1_700_000_000_206_503)]
    upgrade(settings, "head")
    assert read(ledger, "SELECT * FROM lanes") == [
        ("accept", 231, 1_700_000_000_230_000, 0),
        ("settle", 395, 1_700_000_000_206_503, 207),
    ]


@pytest.mark.usefixtures("small_chunks")
def test_watermark_is_the_last_transfer_if_nothing_is_pending(settings: Settings, ledger: Path) -> None:
    with unguarded(ledger) as raw:
        raw.execute("UPDATE transfers SET status = 'cancelled', settled_at = 5 WHERE status = 'pending'")
    upgrade(settings, "head")
    assert read(ledger, "SELECT watermark FROM lanes WHERE name = 'settle'") == [(TRANSFERS,)]


def test_lanes_of_an_empty_bank_begin_with_one(settings: Settings) -> None:
    upgrade(settings, "head")
    assert read(settings.database_path, "SELECT * FROM lanes") == [("accept", 1, 0, 0), ("settle", 1, 0, 0)]


@pytest.mark.usefixtures("small_chunks")
def test_head_of_the_chain_stays_and_follows_from_the_moved_rows(settings: Settings, ledger: Path) -> None:
    before = read(ledger, "SELECT * FROM blocks ORDER BY height")
    assert len(before) > 5
    upgrade(settings, "head")
    assert read(ledger, "SELECT * FROM blocks ORDER BY height") == before
    stored, computed = head_of_rows(ledger)
    assert stored == computed


@pytest.mark.usefixtures("small_chunks")
def test_migrated_ledger_holds_every_rule(settings: Settings, ledger: Path) -> None:
    upgrade(settings, "head")
    database = Database(settings)
    report = verify(database)
    database.close()
    assert (report.breaches, report.transfers, report.accounts) == ([], TRANSFERS, 6)


@pytest.mark.usefixtures("small_chunks")
def test_database_is_whole_and_has_the_schema_of_the_models(settings: Settings, ledger: Path) -> None:
    upgrade(settings, "head")
    assert read(ledger, "PRAGMA integrity_check") == [("ok",)]
    assert read(ledger, "PRAGMA foreign_key_check") == []
    database = Database(settings)
    with database.reader.connect() as connection:
        assert schema.differences(connection) == []
        assert schema.read(connection) == schema.expected()
    database.close()


@pytest.mark.usefixtures("small_chunks")
def test_index_of_idempotency_keys_still_finds_and_guards_them(settings: Settings, ledger: Path) -> None:
    upgrade(settings, "head")
    find = "FROM transfers WHERE idempotency_key = (SELECT idempotency_key FROM transfers WHERE id = 77)"
    assert read(ledger, f"SELECT id {find} AND submitted_by = 2") == [(77,)]
    plan = read(ledger, f"EXPLAIN QUERY PLAN SELECT id {find} AND submitted_by = 2")
    assert "USING COVERING INDEX uq_transfers_idempotency_key" in str(plan)
    again = read(ledger, "SELECT * FROM transfers WHERE id = 77")[0]
    with closing(sqlite3.connect(ledger)) as raw, pytest.raises(sqlite3.IntegrityError, match="idempotency_key"):
        raw.execute(f"INSERT INTO transfers VALUES ({', '.join('?' * len(again))})", (999, b"new", *again[2:]))
