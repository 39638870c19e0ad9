"""What the database itself refuses, whatever the code above it does: triggers, CHECKs, STRICT types, uniqueness."""

from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from core.domain.audit import Action
from core.domain.transfers import TransferKind, TransferStatus
from core.services.transfers import listing
from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work
from tests.builders import Bank, accepted, freeze, from_ada_to_bob, rows, settle_all
from tests.unit.storage.good_rows import ACT, CARD, ERASED, FIGURES, GOOD, NEEDS_A_RUN, NOTHING, STATEMENT, flat, insert

PENDING, COMPLETED, FAILED, CANCELLED = (status.value for status in TransferStatus)
TERMINAL = [COMPLETED, FAILED, CANCELLED]


@pytest.fixture
def bank(database: Database, bank: Bank) -> Bank:
    """A bank with a transfer of every status, and legs."""
    cancelled = accepted(database, from_ada_to_bob(bank, idempotency_key="cancelled"))
    with unit_of_work(database) as connection:
        listing.cancel(connection, user_id=bank.ada.id, transfer_id=cancelled.id)
    accepted(database, from_ada_to_bob(bank, idempotency_key="failed"))
    freeze(database, bank.bob_account)
    settle_all(database)
    accepted_before_the_freeze = rows(database, "SELECT status FROM transfers WHERE idempotency_key = 'failed'")
    assert accepted_before_the_freeze == [{"status": FAILED}]
    with unit_of_work(database) as connection:
        connection.exec_driver_sql("UPDATE accounts SET status = 'active', freeze_scope = NULL")
    accepted(database, from_ada_to_bob(bank, idempotency_key="pending", description="for lunch"))
    return bank


def refused(database: Database, statement: str, *parameters: Any, because: str = "") -> None:
    with pytest.raises(IntegrityError, match=because), unit_of_work(database) as connection:
        connection.exec_driver_sql(statement, parameters)


def written(database: Database, statement: str, *parameters: Any) -> int:
    with unit_of_work(database) as connection:
        return connection.exec_driver_sql(statement, parameters).rowcount


# --- what never changes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", TERMINAL)
@pytest.mark.parametrize(
    "change",
    [
        "status = 'pending', settled_at = NULL, failure_code = NULL",
        "status = 'completed', failure_code = NULL",
        "status = 'cancelled', failure_code = NULL",
        "status = 'failed', failure_code = 'account_closed'",
        "settled_at = settled_at + 1",
        "status = status",
    ],
)
def test_a_transfer_that_has_ended_never_changes(database: Database, bank: Bank, status: str, change: str) -> None:
    refused(database, f"UPDATE transfers SET {change} WHERE status = ?", status, because="has ended never changes")


TERMS = {
    "id": "id + 1000",
    "public_id": "x'00'",
    "kind": "'deposit'",
    "from_account_id": "to_account_id",
    "to_account_id": "from_account_id",
    "amount": "amount + 1",
    "currency": "'EUR'",
    "description": "'for supper'",
    "submitted_by": "1",
    "request_id": "'another'",
    "idempotency_key": "'another'",
    "fingerprint": "x'00'",
    "answer_version": "2",
    "previous_id": "NULL",
    "created_at": "created_at + 1",
}
MOVES = {"status", "settled_at", "failure_code"}


def test_every_column_of_a_transfer_is_a_term_or_part_of_its_end(database: Database) -> None:
    columns = {row["name"] for row in rows(database, "SELECT name FROM pragma_table_info('transfers')")}
    assert columns == set(TERMS) | MOVES


@pytest.mark.parametrize("column", TERMS)
def test_the_terms_of_a_transfer_never_change(database: Database, bank: Bank, column: str) -> None:
    refused(
        database,
        f"UPDATE transfers SET {column} = {TERMS[column]} WHERE status = 'pending'",
        because="terms of a transfer never change",
    )


@pytest.mark.parametrize("status", [PENDING, *TERMINAL])
def test_a_transfer_is_never_deleted(database: Database, bank: Bank, status: str) -> None:
    refused(database, "DELETE FROM transfers WHERE status = ?", status, because="a transfer is never deleted")


@pytest.mark.parametrize(
    "column", ["transfer_id", "account_id", "amount", "balance_after", "posted_at", "previous_id", "id"]
)
def test_a_transaction_never_changes(database: Database, bank: Bank, column: str) -> None:
    refused(database, f"UPDATE transactions SET {column} = {column}", because="a transaction never changes")


def test_a_transaction_is_never_deleted(database: Database, bank: Bank) -> None:
    refused(database, "DELETE FROM transactions", because="a transaction is never deleted")


@pytest.mark.parametrize(
    "column",
    [
        *("height", "kind", "first_leg_id", "leg_count", "first_sequence", "last_sequence", "ending_count", "made_at"),
        "hash",
    ],
)
def test_a_block_never_changes(database: Database, bank: Bank, column: str) -> None:
    refused(database, f"UPDATE blocks SET {column} = {column}", because="a block never changes")


def test_a_block_is_never_deleted(database: Database) -> None:
    refused(database, "DELETE FROM blocks", because="a block is never deleted")


@pytest.mark.parametrize("column", ["id", "public_id", "mode", "transfer_count", "refused", "answer_version"])
def test_the_terms_of_a_batch_never_change(database: Database, column: str) -> None:
    statement, values = insert("batches")
    written(database, statement, *values)
    refused(database, f"UPDATE batches SET {column} = {column}", because="the terms of a batch never change")


def test_a_batch_fails_once_and_is_never_deleted(database: Database) -> None:
    statement, values = insert("batches")
    written(database, statement, *values)
    written(database, "UPDATE batches SET failed_index = 1")
    refused(database, "UPDATE batches SET failed_index = 0", because="a batch that has failed never changes")
    refused(database, "DELETE FROM batches", because="a batch is never deleted")


def test_a_transfer_is_cancelled_by_one_block(database: Database, bank: Bank) -> None:
    statement, values = insert("blocks", kind="cancellation")
    written(database, statement, *values)
    statement, values = insert("blocks", kind="cancellation", height=100)
    refused(database, statement, *values, because="UNIQUE constraint failed: blocks.first_sequence")


@pytest.mark.parametrize("column", ["id", "at", "author_id", "action", "object_id", "details", "request_id", "address"])
def test_an_act_that_was_written_down_never_changes(database: Database, column: str) -> None:
    statement, values = insert("audit_entries")
    written(database, statement, *values)
    columns = {row["name"] for row in rows(database, "SELECT name FROM pragma_table_info('audit_entries')")}
    assert columns == {"id", *ACT}
    refused(database, f"UPDATE audit_entries SET {column} = {column}", because="was written down never changes")


def test_an_act_that_was_written_down_stays(database: Database) -> None:
    statement, values = insert("audit_entries")
    written(database, statement, *values)
    refused(database, "DELETE FROM audit_entries", because="was written down stays")


CARD_TERMS = {
    "id": "id + 1000",
    "public_id": "x'00'",
    "owner_id": "2",
    "account_id": "3",
    "type": "'credit'",
    "last4": "'0043'",
    "expiry": "'2031-11'",
    "created_at": "created_at + 1",
}
SHREDDED = "sealed_number = NULL, key_version = NULL, number_index = NULL"


@pytest.mark.parametrize("column", CARD_TERMS)
def test_the_terms_of_a_card_never_change(database: Database, bank: Bank, column: str) -> None:
    statement, values = insert("cards")
    written(database, statement, *values)
    refused(database, f"UPDATE cards SET {column} = {CARD_TERMS[column]}", because="terms of a card never change")


def test_every_column_of_a_card_is_a_term_or_can_change() -> None:
    changing = {"status", "cancelled_at", "sealed_number", "key_version", "number_index"}
    assert CARD.keys() - CARD_TERMS.keys() == changing


def test_a_card_keeps_its_number(database: Database, bank: Bank) -> None:
    statement, values = insert("cards")
    written(database, statement, *values)
    refused(database, "UPDATE cards SET number_index = randomblob(32)", because="keeps its number")
    refused(database, f"UPDATE cards SET {SHREDDED}", because="ck_cards_number")


@pytest.mark.parametrize("part", SHREDDED.split(", "))
def test_a_cancelled_card_loses_its_number_whole_and_for_good(database: Database, bank: Bank, part: str) -> None:
    statement, values = insert("cards", status="cancelled", cancelled_at=1)
    written(database, statement, *values)
    refused(database, f"UPDATE cards SET {part}", because="ck_cards_number|under a newer key only")
    assert written(database, f"UPDATE cards SET {SHREDDED}") == 1
    sealed = "sealed_number = randomblob(44), key_version = 9"
    refused(database, f"UPDATE cards SET {sealed}", because="under a newer key only")
    refused(database, "UPDATE cards SET number_index = randomblob(32)", because="for good")


def test_an_erased_user_never_changes(database: Database, bank: Bank) -> None:
    statement, values = insert("users", **ERASED)
    written(database, statement, *values)
    refused(database, "UPDATE users SET role = role WHERE erased_at IS NOT NULL", because="erased user never changes")


@pytest.mark.parametrize(
    "change", [{"email": "ada@example.com"}, {"name": "Ada"}, {"password_hash": "a hash"}, {"is_active": 1}], ids=str
)
def test_of_an_erased_user_nothing_is_left(database: Database, change: dict[str, Any]) -> None:
    statement, values = insert("users", **ERASED | change)
    refused(database, statement, *values, because="ck_users_erased")


@pytest.mark.parametrize("change", ["status = 'active', cancelled_at = NULL", "cancelled_at = 2", "status = status"])
def test_a_cancelled_card_stays_cancelled(database: Database, bank: Bank, change: str) -> None:
    statement, values = insert("cards", status="cancelled", cancelled_at=1)
    written(database, statement, *values)
    refused(database, f"UPDATE cards SET {change}", because="a cancelled card stays cancelled")


@pytest.mark.parametrize("status", ["active", "cancelled"])
def test_a_card_can_be_sealed_anew_under_a_newer_key_only(database: Database, bank: Bank, status: str) -> None:
    statement, values = insert("cards", status=status, cancelled_at=1 if status == "cancelled" else None)
    written(database, statement, *values)
    assert written(database, "UPDATE cards SET sealed_number = randomblob(44), key_version = 3") == 1
    for change in ("key_version = 2", "sealed_number = randomblob(44)"):
        refused(database, f"UPDATE cards SET {change}", because="under a newer key only")


def test_a_card_is_never_deleted(database: Database, bank: Bank) -> None:
    statement, values = insert("cards")
    written(database, statement, *values)
    refused(database, "DELETE FROM cards", because="a card is never deleted")


def test_no_two_cards_have_one_number(database: Database, bank: Bank) -> None:
    statement, values = insert("cards")
    written(database, statement, *values)
    statement, values = insert("cards", public_id=b"a third card ...")
    refused(database, statement, *values, because="UNIQUE constraint failed: cards.number_index")


def test_a_pending_transfer_can_end(database: Database, bank: Bank) -> None:
    assert written(database, "UPDATE transfers SET status = 'cancelled', settled_at = 5 WHERE status = 'pending'") == 1


# --- what cannot be written --------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", GOOD)
def test_the_rows_that_the_tests_below_spoil_are_good(database: Database, bank: Bank, table: str) -> None:
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
        ("accounts", {"reserved": -1}, "ck_accounts_reserved"),
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
        ("transfers", {"status": "lost", "settled_at": 1}, "ck_transfers_status"),
        ("transfers", {"amount": 0}, "ck_transfers_amount"),
        ("transfers", {"amount": -1}, "ck_transfers_amount"),
        ("transfers", {"amount": 10**15 + 1}, "ck_transfers_amount"),
        ("transfers", {"to_account_id": 2}, "ck_transfers_accounts"),
        ("transfers", {"settled_at": 1}, "ck_transfers_settled"),
        ("transfers", {"status": "completed"}, "ck_transfers_settled"),
        ("transfers", {"status": "failed", "settled_at": 1}, "ck_transfers_failure"),
        ("transfers", {"failure_code": "account_closed"}, "ck_transfers_failure"),
        (
            "transfers",
            {"status": "completed", "settled_at": 1, "failure_code": "account_closed"},
            "ck_transfers_failure",
        ),
        ("transfers", {"idempotency_key": "k"}, "ck_transfers_fingerprint"),
        ("transfers", {"fingerprint": b"f"}, "ck_transfers_fingerprint"),
        ("transfers", {"from_account_id": 999}, "FOREIGN KEY"),
        ("transfers", {"to_account_id": 999}, "FOREIGN KEY"),
        ("transfers", {"submitted_by": 999}, "FOREIGN KEY"),
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
def test_a_row_that_cannot_be_true_is_not_written(
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
def test_a_row_at_its_bound_is_written(database: Database, bank: Bank, table: str, changes: dict[str, Any]) -> None:
    statement, values = insert(table, **changes)
    assert written(database, statement, *values) == 1


def wrong_values(column: str) -> list[Any]:
    """Values of other types than a column's own."""
    texts = {"kind", "status", "currency", "description", "request_id", "email", "name", "role", "account_number"}
    texts |= {"password_hash", "freeze_scope", "failure_code", "idempotency_key", "action", "details", "address"}
    texts |= {"period", "time_zone", "holder", "bank_name", "bank_address", "bank_bic", "total_credits", "total_debits"}
    texts |= {"queue", "actor", "arguments", "error", "type", "last4", "expiry", "scope", "mode", "refused"}
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
def test_a_column_holds_its_own_type_and_no_other(database: Database, table: str) -> None:
    for column in GOOD[table]:
        for value in wrong_values(column):
            statement, values = insert(table, **{column: value})
            because = "datatype mismatch" if (table, column) in ROW_IDS else f"{table}\\.{column}"
            refused(database, statement, *values, because=because)


ROW_IDS = {("blocks", "height"), ("batches", "id")}
"""Given by the code; SQLite has words of its own for them."""


def test_every_table_of_ours_is_strict(database: Database) -> None:
    tables = rows(database, "SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND type = 'table'")
    ours = {row["name"] for row in tables if row["strict"]}
    assert ours == {"fences", *GOOD}
    assert {row["name"] for row in tables} - ours == {"sqlite_schema", "alembic_version"}


def test_one_key_of_one_user_is_bound_once(database: Database, bank: Bank) -> None:
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


def test_there_is_one_fence(database: Database) -> None:
    assert rows(database, "SELECT id FROM fences") == [{"id": 1}]
    refused(database, "INSERT INTO fences (id, passed) VALUES (2, 0)", because="ck_fences_id")


def test_the_bank_itself_is_the_first_user_and_cannot_log_in(database: Database) -> None:
    (system,) = rows(database, "SELECT id, role, is_active, password_hash FROM users")
    assert system == {"id": 1, "role": "system", "is_active": 0, "password_hash": "!"}


def test_the_kinds_and_statuses_of_the_checks_are_those_of_the_code(database: Database, bank: Bank) -> None:
    for number, kind in enumerate(TransferKind):
        statement, values = insert("transfers", kind=kind.value, public_id=bytes([number]))
        assert written(database, statement, *values) == 1
