"""Rows that the database rejects: CHECKs, STRICT types, uniqueness."""

from typing import Any

import pytest

from core.domain.audit import Action
from core.domain.transfers import TransferKind, TransferStatus
from core.storage.sqlite.engine import Database
from tests.builders import Bank, rows
from tests.unit.storage.good_rows import (
    CARD,
    FIGURES,
    GOOD,
    NEEDS_A_RUN,
    NOTHING,
    STATEMENT,
    flat,
    insert,
    refused,
    written,
)

PENDING, COMPLETED, FAILED, CANCELLED = (status.value for status in TransferStatus)


@pytest.mark.parametrize("table", GOOD)
def test_the_rows_that_the_tests_below_change_are_valid(database: Database, bank: Bank, table: str) -> None:
    if table in NEEDS_A_RUN:
        written(database, *flat(insert("statement_runs")))
    statement, values = insert(table)
    assert written(database, statement, *values) == 1


@pytest.mark.parametrize(
    ("table", "changes", "check"),
    [
        ("accounts", {"kind": "savings"}, "ck_accounts_kind"),
        ("accounts", {"status": "asleep"}, "ck_accounts_status"),
        ("accounts", {"owner_id": None}, "ck_accounts_owner"),
        ("accounts", {"kind": "external", "currency": "EUR"}, "ck_accounts_owner"),
        ("accounts", {"status": "frozen"}, "ck_accounts_frozen"),
        ("accounts", {"freeze_scope": "all"}, "ck_accounts_frozen"),
        ("accounts", {"status": "frozen", "freeze_scope": "credit"}, "ck_accounts_freeze_scope"),
        ("accounts", {"status": "closed"}, "ck_accounts_closed"),
        ("accounts", {"closed_at": 1}, "ck_accounts_closed"),
        ("accounts", {"currency": "US"}, "ck_accounts_currency"),
        ("accounts", {"currency": "USDT"}, "ck_accounts_currency"),
        ("accounts", {"overdraft_limit": -1}, "ck_accounts_overdraft_limit"),
        ("accounts", {"overdraft_limit": 9 * 10**15 + 1}, "ck_accounts_overdraft_limit"),
        ("accounts", {"balance": -1}, "ck_accounts_balance"),
        ("accounts", {"balance": -101, "overdraft_limit": 100}, "ck_accounts_balance"),
        ("accounts", {"balance": 9 * 10**15 + 1}, "ck_accounts_balance"),
        ("accounts", {"kind": "external", "currency": "EUR", "owner_id": None, "balance": 9 * 10**18 + 1}, "balance"),
        (
            "accounts",
            {"kind": "external", "currency": "EUR", "owner_id": None, "balance": -(9 * 10**18) - 1},
            "balance",
        ),
        ("accounts", {"kind": "external", "owner_id": None}, "UNIQUE"),
        ("accounts", {"owner_id": 999}, "FOREIGN KEY"),
        ("users", {"role": "king"}, "ck_users_role"),
        ("users", {"is_active": 2}, "ck_users_is_active"),
        ("users", {"email": "Another@example.com"}, "ck_users_email_lower"),
        ("users", {"email": "system@giro.invalid"}, "UNIQUE"),
        ("users", {"password_hash": None}, "NOT NULL"),
        ("users", {"erased_at": 1}, "ck_users_erased"),
        ("transfers", {"kind": "gift"}, "ck_transfers_kind"),
        ("transfers", {"amount": 0}, "ck_transfers_amount"),
        ("transfers", {"amount": -1}, "ck_transfers_amount"),
        ("transfers", {"amount": 10**15 + 1}, "ck_transfers_amount"),
        ("transfers", {"to_account_id": 2}, "ck_transfers_accounts"),
        ("transfers", {"idempotency_key": "k"}, "ck_transfers_fingerprint"),
        ("transfers", {"fingerprint": b"f"}, "ck_transfers_fingerprint"),
        ("transfers", {"from_account_id": 999}, "FOREIGN KEY"),
        ("transfers", {"to_account_id": 999}, "FOREIGN KEY"),
        ("transfers", {"submitted_by": 999}, "FOREIGN KEY"),
        ("endings", {"status": "lost", "payer_id": 2}, "ck_endings_status"),
        ("endings", {"status": "pending", "payer_id": 2}, "ck_endings_status"),
        ("endings", {"ended_at": None}, "NOT NULL"),
        ("endings", {"status": "failed", "payer_id": 2}, "ck_endings_failure"),
        ("endings", {"status": "cancelled", "payer_id": 2, "failure_code": "account_closed"}, "ck_endings_failure"),
        ("endings", {"failure_code": "account_closed"}, "ck_endings_failure"),
        ("endings", {"status": "failed", "failure_code": "account_closed"}, "ck_endings_payer"),
        ("endings", {"status": "cancelled"}, "ck_endings_payer"),
        ("endings", {"payer_id": 2}, "ck_endings_payer"),
        ("endings", {"id": 1}, "UNIQUE"),
        ("transactions", {"amount": 0}, "ck_transactions_amount"),
        ("transactions", {"transfer_id": 999}, "FOREIGN KEY"),
        ("transactions", {"account_id": 999}, "FOREIGN KEY"),
        ("refresh_tokens", {"user_id": 999}, "FOREIGN KEY"),
        ("statement_runs", {"ends_at": 0}, "ck_statement_runs_bounds"),
        ("statement_runs", {"groups_done": -1}, "ck_statement_runs_groups_done"),
        ("statement_runs", {"groups_done": 2, "finished_at": 1}, "ck_statement_runs_groups_done"),
        ("statement_runs", {"groups_done": 1}, "ck_statement_runs_finished"),
        ("statement_runs", {"finished_at": 1}, "ck_statement_runs_finished"),
        ("statement_groups", {"run_id": 999}, "FOREIGN KEY"),
        ("statement_groups", {"first_account_id": 4}, "ck_statement_groups_accounts"),
        ("statements", {"account_id": 999}, "FOREIGN KEY"),
        ("statements", {"run_id": 999}, "FOREIGN KEY"),
        ("statements", {"status": "provisional"}, "ck_statements_status"),
        ("statements", {"status": "pending"}, "ck_statements_figures"),
        *[("statements", {column: None}, "ck_statements_figures") for column in FIGURES],
        *[("statements", NOTHING | {column: STATEMENT[column]}, "ck_statements_figures") for column in FIGURES],
        ("dead_letters", {"attempts": -1}, "ck_dead_letters_attempts"),
        ("dead_letters", {"arguments": "{}"}, "ck_dead_letters_arguments"),
        ("verifications", {"details": "{}"}, "ck_verifications_details"),
        ("verifications", {"scope": "half"}, "ck_verifications_scope"),
        ("verifications", {"height": None}, "ck_verifications_head"),
        ("batches", {"mode": "other"}, "ck_batches_mode"),
        ("batches", {"transfer_count": 0}, "ck_batches_transfers"),
        ("batches", {"transfer_count": 5001}, "ck_batches_transfers"),
        ("batches", {"refused": "{}"}, "ck_batches_refused"),
        ("batches", {"refused": '[[0,"same_account"]]'}, "ck_batches_all"),
        ("batches", {"failed_index": 2}, "ck_batches_failed"),
        ("batches", {"failed_index": 1, "mode": "independent"}, "ck_batches_failed"),
        ("blocks", {"kind": "other"}, "ck_blocks_kind"),
        ("blocks", {"kind": "genesis"}, "ck_blocks_genesis"),
        ("blocks", {"height": 0, "kind": "settlement"}, "ck_blocks_genesis"),
        ("blocks", {"kind": "cancellation", "last_sequence": 2}, "ck_blocks_one"),
        ("blocks", {"kind": "cancellation", "leg_count": 2}, "ck_blocks_one"),
        ("blocks", {"leg_count": -1}, "ck_blocks_counts"),
        ("blocks", {"ending_count": -1}, "ck_blocks_counts"),
        ("blocks", {"hash": b"short"}, "ck_blocks_hash"),
        ("audit_entries", {"author_id": 999}, "FOREIGN KEY"),
        ("cards", {"type": "gift"}, "ck_cards_type"),
        ("cards", {"status": "lost"}, "ck_cards_status"),
        ("cards", {"last4": "42"}, "ck_cards_last4"),
        ("cards", {"last4": "00042"}, "ck_cards_last4"),
        ("cards", {"last4": "004x"}, "ck_cards_last4"),
        ("cards", {"expiry": "11/30"}, "ck_cards_expiry"),
        ("cards", {"expiry": "2030-11-30"}, "ck_cards_expiry"),
        ("cards", {"sealed_number": b"9999991234567890"}, "ck_cards_sealed_number"),
        ("cards", {"number_index": b"i" * 31}, "ck_cards_number_index"),
        ("cards", {"key_version": 0}, "ck_cards_key_version"),
        ("cards", {"status": "cancelled"}, "ck_cards_cancelled"),
        ("cards", {"cancelled_at": 1}, "ck_cards_cancelled"),
        ("cards", {"owner_id": 999}, "FOREIGN KEY"),
        ("cards", {"account_id": 999}, "FOREIGN KEY"),
        *[
            ("cards", {column: None}, f"NOT NULL constraint failed: cards.{column}")
            for column in CARD
            if column not in {"cancelled_at", "sealed_number", "key_version", "number_index"}
        ],
        *[("cards", {column: None}, "ck_cards_number") for column in ("sealed_number", "key_version", "number_index")],
        *[
            ("audit_entries", {"author_id": None, "action": action.value}, "ck_audit_entries_author")
            for action in Action
            if not action.may_lack_author
        ],
        *[
            ("audit_entries", {column: None}, f"NOT NULL constraint failed: audit_entries.{column}")
            for column in ("at", "action", "details", "request_id")
        ],
    ],
)
def test_a_row_that_violates_a_rule_is_rejected(
    database: Database, bank: Bank, table: str, changes: dict[str, Any], check: str
) -> None:
    if table in NEEDS_A_RUN:
        written(database, *flat(insert("statement_runs")))
    statement, values = insert(table, **changes)
    refused(database, statement, *values, because=check)


@pytest.mark.parametrize(
    ("table", "changes"),
    [
        ("accounts", {"balance": 9 * 10**15}),
        ("accounts", {"balance": -100, "overdraft_limit": 100}),
        ("accounts", {"kind": "external", "currency": "EUR", "owner_id": None, "balance": -9 * 10**18}),
        ("accounts", {"kind": "external", "currency": "EUR", "owner_id": None, "balance": 9 * 10**18}),
        ("accounts", {"overdraft_limit": 9 * 10**15}),
        ("transfers", {"amount": 10**15}),
        ("audit_entries", {"object_id": None}),
        *[
            ("audit_entries", {"author_id": None, "action": action.value})
            for action in Action
            if action.may_lack_author
        ],
    ],
)
def test_a_row_at_its_limit_is_accepted(database: Database, bank: Bank, table: str, changes: dict[str, Any]) -> None:
    statement, values = insert(table, **changes)
    assert written(database, statement, *values) == 1


def wrong_values(column: str) -> list[Any]:
    """Values of types other than the column's type."""
    texts = {
        "boot_id",
        "kind",
        "status",
        "currency",
        "description",
        "request_id",
        "email",
        "name",
        "role",
        "account_number",
    }
    texts |= {"password_hash", "freeze_scope", "failure_code", "idempotency_key", "action", "details", "address"}
    texts |= {"period", "time_zone", "holder", "bank_name", "bank_address", "bank_bic", "total_credits", "total_debits"}
    texts |= {"queue", "actor", "arguments", "error", "type", "last4", "expiry", "scope", "mode", "refused"}
    texts |= {"media_type", "file_name", "month"}
    blobs = {
        "public_id",
        "fingerprint",
        "family",
        "digest",
        "object_id",
        "sealed_number",
        "number_index",
        "hash",
        "head_hash",
    }
    return [b"blob"] if column in texts else ["text", 5] if column in blobs else ["text", 1.5, b"blob"]


@pytest.mark.parametrize("table", GOOD)
def test_a_column_accepts_only_its_own_type(database: Database, table: str) -> None:
    for column in GOOD[table]:
        for value in wrong_values(column):
            statement, values = insert(table, **{column: value})
            because = "datatype mismatch" if (table, column) in ROW_IDS else f"{table}\\.{column}"
            refused(database, statement, *values, because=because)


ROW_IDS = {("endings", "id"), ("blocks", "height"), ("batches", "id"), ("clocks", "id")}
"""Row ids. The code always sets them, and SQLite reports a wrong type with another message."""


def test_every_table_of_giro_is_strict(database: Database) -> None:
    tables = rows(database, "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND type = 'table'")
    ours = {row["name"] for row in tables if row["strict"]}
    assert ours == {"fences", "isolations", "lanes", "milestones", "reservations", "scars", *GOOD}
    assert {row["name"] for row in tables} - ours == {"sqlite_schema", "alembic_version"}


def test_a_key_of_a_user_is_bound_once(database: Database, bank: Bank) -> None:
    key = {"idempotency_key": "k", "fingerprint": b"f"}
    for user, number in ((1, 0), (bank.ada.id, 1)):
        statement, values = insert("transfers", **key, submitted_by=user, public_id=bytes([number]))
        assert written(database, statement, *values) == 1
    statement, values = insert("transfers", **key, submitted_by=1, public_id=b"2")
    refused(database, statement, *values, because="UNIQUE")


def test_public_ids_and_account_numbers_are_unique(database: Database, bank: Bank) -> None:
    for table in ("accounts", "transfers", "users"):
        taken = rows(database, f"SELECT public_id FROM {table} LIMIT 1")[0]["public_id"]
        statement, values = insert(table, public_id=taken)
        refused(database, statement, *values, because=f"UNIQUE constraint failed: {table}.public_id")
    number = rows(database, "SELECT account_number FROM accounts LIMIT 1")[0]["account_number"]
    statement, values = insert("accounts", account_number=number)
    refused(database, statement, *values, because="accounts.account_number")


def test_only_one_fence_exists(database: Database) -> None:
    assert rows(database, "SELECT id FROM fences") == [{"id": 1}]
    refused(database, "INSERT INTO fences (id, passed) VALUES (2, 0)", because="ck_fences_id")


def test_only_the_two_lanes_exist(database: Database) -> None:
    lanes = rows(database, "SELECT name, next_id, newest_at, watermark FROM lanes ORDER BY name")
    assert lanes == [
        {"name": "accept", "next_id": 1, "newest_at": 0, "watermark": 0},
        {"name": "settle", "next_id": 1, "newest_at": 0, "watermark": 0},
    ]
    refused(database, "INSERT INTO lanes VALUES ('close', 1, 0, 0)", because="ck_lanes_name")
    refused(database, "INSERT INTO lanes VALUES ('settle', 1, 0, 0)", because="UNIQUE")


def test_an_account_has_one_row_of_reservations(database: Database, bank: Bank) -> None:
    assert rows(database, "SELECT account_id AS id FROM reservations") == rows(database, "SELECT id FROM accounts")
    refused(database, "INSERT INTO reservations VALUES (2, 0, 0, 0, NULL)", because="UNIQUE")
    refused(database, "INSERT INTO reservations VALUES (999, 0, 0, 0, NULL)", because="FOREIGN KEY")


@pytest.mark.parametrize("table", ["lanes", "reservations"])
def test_a_number_of_a_lane_or_a_reservation_is_an_integer(database: Database, bank: Bank, table: str) -> None:
    columns = [row["name"] for row in rows(database, "SELECT name FROM pragma_table_info(?) WHERE pk = 0", table)]
    assert len(columns) >= 3
    for column in columns:
        for value in ("text", 1.5, b"blob"):
            refused(database, f"UPDATE {table} SET {column} = ?", value, because=f"{table}\\.{column}")


def test_the_bank_itself_is_the_first_user_and_cannot_log_in(database: Database) -> None:
    (system,) = rows(database, "SELECT id, role, is_active, password_hash FROM users")
    assert system == {"id": 1, "role": "system", "is_active": 0, "password_hash": "!"}


def test_the_kinds_and_statuses_in_the_checks_match_the_code(database: Database, bank: Bank) -> None:
    for number, kind in enumerate(TransferKind):
        statement, values = insert("transfers", kind=kind.value, public_id=bytes([number]))
        assert written(database, statement, *values) == 1
    for number, status in enumerate({*TransferStatus} - {TransferStatus.PENDING}):
        why = "account_closed" if status is TransferStatus.FAILED else None
        payer = None if status is TransferStatus.COMPLETED else 2
        statement, values = insert("endings", id=100 + number, status=status.value, failure_code=why, payer_id=payer)
        assert written(database, statement, *values) == 1
