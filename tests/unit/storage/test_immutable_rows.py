"""Rows that nobody can change or delete, because triggers in the database prevent it."""

from typing import Any

import pytest

from core.domain.transfers import TransferStatus
from core.storage.sqlite.engine import Database
from tests.builders import WHOLE_TRANSFERS, Bank, rows
from tests.unit.storage.good_rows import (
    ACT,
    CARD,
    ERASED,
    insert,
    refused,
    written,
)

PENDING, COMPLETED, FAILED, CANCELLED = (status.value for status in TransferStatus)
TERMINAL = [COMPLETED, FAILED, CANCELLED]
IN_STATUS = f"id IN (SELECT id FROM {WHOLE_TRANSFERS} WHERE status = ?)"


@pytest.mark.parametrize("status", TERMINAL)
@pytest.mark.parametrize(
    "change",
    [
        "status = 'completed', failure_code = NULL, payer_id = NULL",
        "status = 'cancelled', failure_code = NULL, payer_id = 2",
        "status = 'failed', failure_code = 'account_closed', payer_id = 2",
        "ended_at = ended_at + 1",
        "payer_id = payer_id + 1",
        "id = id + 1000",
        "status = status",
    ],
)
def test_an_ending_never_changes(database: Database, bank: Bank, status: str, change: str) -> None:
    refused(database, f"UPDATE endings SET {change} WHERE status = ?", status, because="an ending never changes")


@pytest.mark.parametrize("status", TERMINAL)
def test_an_ending_is_never_deleted(database: Database, bank: Bank, status: str) -> None:
    refused(database, "DELETE FROM endings WHERE status = ?", status, because="an ending is never deleted")


@pytest.mark.parametrize("status", TERMINAL)
def test_a_transfer_that_has_ended_cannot_end_again(database: Database, bank: Bank, status: str) -> None:
    again = f"INSERT INTO endings (id, status, ended_at) SELECT id, 'completed', 5 FROM transfers WHERE {IN_STATUS}"
    refused(database, again, status, because="UNIQUE constraint failed: endings.id")


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


def test_every_column_of_a_transfer_is_a_term(database: Database) -> None:
    columns = {row["name"] for row in rows(database, "SELECT name FROM pragma_table_info('transfers')")}
    assert columns == set(TERMS)


@pytest.mark.parametrize("status", [PENDING, *TERMINAL])
@pytest.mark.parametrize("column", TERMS)
def test_a_transfer_never_changes(database: Database, bank: Bank, column: str, status: str) -> None:
    changed = f"UPDATE transfers SET {column} = {TERMS[column]} WHERE {IN_STATUS}"
    refused(database, changed, status, because="a transfer never changes")


@pytest.mark.parametrize("status", [PENDING, *TERMINAL])
def test_a_transfer_is_never_deleted(database: Database, bank: Bank, status: str) -> None:
    refused(database, f"DELETE FROM transfers WHERE {IN_STATUS}", status, because="a transfer is never deleted")


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


@pytest.mark.parametrize("column", ["id", "at", "author_id", "action", "object_id", "details", "request_id", "address"])
def test_an_audit_entry_never_changes(database: Database, column: str) -> None:
    statement, values = insert("audit_entries")
    written(database, statement, *values)
    columns = {row["name"] for row in rows(database, "SELECT name FROM pragma_table_info('audit_entries')")}
    assert columns == {"id", *ACT}
    refused(database, f"UPDATE audit_entries SET {column} = {column}", because="was written down never changes")


def test_an_audit_entry_is_never_deleted(database: Database) -> None:
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
def test_a_cancelled_card_loses_its_whole_number_for_good(database: Database, bank: Bank, part: str) -> None:
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
def test_an_erased_user_can_have_no_personal_data(database: Database, change: dict[str, Any]) -> None:
    statement, values = insert("users", **ERASED | change)
    refused(database, statement, *values, because="ck_users_erased")


@pytest.mark.parametrize("change", ["status = 'active', cancelled_at = NULL", "cancelled_at = 2", "status = status"])
def test_a_cancelled_card_stays_cancelled(database: Database, bank: Bank, change: str) -> None:
    statement, values = insert("cards", status="cancelled", cancelled_at=1)
    written(database, statement, *values)
    refused(database, f"UPDATE cards SET {change}", because="a cancelled card stays cancelled")


@pytest.mark.parametrize("status", ["active", "cancelled"])
def test_a_card_can_be_sealed_again_under_a_newer_key_only(database: Database, bank: Bank, status: str) -> None:
    statement, values = insert("cards", status=status, cancelled_at=1 if status == "cancelled" else None)
    written(database, statement, *values)
    assert written(database, "UPDATE cards SET sealed_number = randomblob(44), key_version = 3") == 1
    for change in ("key_version = 2", "sealed_number = randomblob(44)"):
        refused(database, f"UPDATE cards SET {change}", because="under a newer key only")


def test_a_card_is_never_deleted(database: Database, bank: Bank) -> None:
    statement, values = insert("cards")
    written(database, statement, *values)
    refused(database, "DELETE FROM cards", because="a card is never deleted")


def test_two_cards_cannot_have_the_same_number(database: Database, bank: Bank) -> None:
    statement, values = insert("cards")
    written(database, statement, *values)
    statement, values = insert("cards", public_id=b"a third card ...")
    refused(database, statement, *values, because="UNIQUE constraint failed: cards.number_index")


def test_a_pending_transfer_can_end(database: Database, bank: Bank) -> None:
    ending = f"SELECT id, 'cancelled', 5, NULL, from_account_id FROM transfers WHERE {IN_STATUS}"
    assert written(database, f"INSERT INTO endings {ending}", PENDING) == 1
