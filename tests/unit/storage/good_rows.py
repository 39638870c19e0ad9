"""A valid row of every table, for tests that make one column invalid."""

from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from core.storage.sqlite.engine import Database
from core.storage.unit_of_work import unit_of_work

ACCOUNT: dict[str, Any] = {
    "public_id": b"another account!",
    "owner_id": 1,
    "account_number": "another number",
    "kind": "customer",
    "currency": "USD",
    "status": "active",
    "freeze_scope": None,
    "balance": 0,
    "overdraft_limit": 0,
    "last_transaction_id": None,
    "created_at": 0,
    "closed_at": None,
    "released_count": 0,
    "released_high": 0,
    "released_low": 0,
    "leg_count": 0,
    "credits_high": 0,
    "credits_low": 0,
}
USER: dict[str, Any] = {
    "public_id": b"another person!!",
    "email": "another@example.com",
    "name": None,
    "password_hash": "!",
    "role": "customer",
    "is_active": 1,
    "token_version": 0,
    "created_at": 0,
}
ERASED: dict[str, Any] = {
    "public_id": b"an erased person",
    "email": f"{b'an erased person'.hex()}@erased.invalid",
    "is_active": 0,
    "erased_at": 1,
}
TRANSFER: dict[str, Any] = {
    "public_id": b"another transfer",
    "kind": "transfer",
    "from_account_id": 2,
    "to_account_id": 3,
    "amount": 1,
    "currency": "USD",
    "description": None,
    "submitted_by": 1,
    "request_id": "a",
    "idempotency_key": None,
    "fingerprint": None,
    "answer_version": 1,
    "previous_id": None,
    "created_at": 0,
}
ENDING: dict[str, Any] = {"id": 99, "status": "completed", "ended_at": 0, "failure_code": None, "payer_id": None}
LEG: dict[str, Any] = {
    "transfer_id": 1,
    "account_id": 2,
    "amount": 1,
    "balance_after": 1,
    "posted_at": 0,
    "previous_id": None,
}
TOKEN: dict[str, Any] = {
    "user_id": 1,
    "family": b"a family of them",
    "digest": b"a digest",
    "token_version": 0,
    "created_at": 0,
    "expires_at": 1,
    "spent_at": None,
}
ACT: dict[str, Any] = {
    "at": 0,
    "author_id": 1,
    "action": "account_frozen",
    "object_id": b"some account ...",
    "details": "{}",
    "request_id": "a",
    "address": None,
}
RUN: dict[str, Any] = {
    "period": "2026-01",
    "time_zone": "UTC",
    "starts_at": 0,
    "ends_at": 1,
    "opened_at": 1,
    "group_count": 1,
    "groups_done": 0,
    "statements": 0,
    "finished_at": None,
}
GROUP: dict[str, Any] = {"run_id": 1, "first_account_id": 1, "last_account_id": 3, "done_at": None}
STATEMENT: dict[str, Any] = {
    "public_id": b"a statement ....",
    "account_id": 2,
    "run_id": 1,
    "status": "final",
    "number": 1,
    "holder": "Ada",
    "bank_name": "Giro",
    "bank_address": None,
    "bank_bic": None,
    "opening_balance": 0,
    "closing_balance": 1,
    "total_credits": "1",
    "total_debits": "0",
    "transaction_count": 1,
    "opening_transaction_id": None,
    "closing_transaction_id": 1,
    "made_at": 1,
}
DEAD_LETTER: dict[str, Any] = {
    "public_id": b"a dead letter ..",
    "queue": "jobs",
    "actor": "verify",
    "arguments": "[]",
    "error": "Exception: ",
    "attempts": 1,
    "first_failed_at": 0,
    "last_failed_at": 0,
    "parked_at": None,
}
BLOCK: dict[str, Any] = {
    "height": 99,
    "kind": "settlement",
    "first_leg_id": 1,
    "leg_count": 0,
    "first_sequence": 1,
    "last_sequence": 1,
    "ending_count": 1,
    "made_at": 0,
    "hash": b"h" * 32,
}
VERIFICATION: dict[str, Any] = {
    "scope": "full",
    "started_at": 0,
    "finished_at": 1,
    "accounts": 0,
    "transfers": 0,
    "transactions": 0,
    "breaches": 0,
    "details": "[]",
    "height": 0,
    "head_hash": b"h" * 32,
    "anchored_height": None,
}
BATCH: dict[str, Any] = {
    "id": 1,
    "public_id": b"another batch...",
    "mode": "atomic",
    "transfer_count": 2,
    "refused": "[]",
    "answer_version": 1,
    "failed_index": None,
}
CARD: dict[str, Any] = {
    "public_id": b"another card ...",
    "owner_id": 1,
    "account_id": 2,
    "type": "debit",
    "status": "active",
    "last4": "0042",
    "expiry": "2030-11",
    "sealed_number": b"s" * 44,
    "key_version": 2,
    "number_index": b"i" * 32,
    "created_at": 0,
    "cancelled_at": None,
}
DOCUMENT: dict[str, Any] = {
    "public_id": b"another document",
    "owner_id": 1,
    "account_id": 2,
    "period": "2026-01",
    "number": None,
    "newest_id": 1,
    "media_type": "text/csv",
    "transaction_count": 1,
    "file_name": "statement.csv",
    "month": "{}",
    "asked_at": 0,
    "made_at": None,
    "expires_at": 1,
}
CLOCK: dict[str, Any] = {"id": 1, "wall_at": 0, "uptime": 0, "boot_id": "", "ledger_at": 0}


GOOD = {
    "accounts": ACCOUNT,
    "users": USER,
    "transfers": TRANSFER,
    "endings": ENDING,
    "transactions": LEG,
    "refresh_tokens": TOKEN,
    "audit_entries": ACT,
    "statement_runs": RUN,
    "statement_groups": GROUP,
    "statements": STATEMENT,
    "dead_letters": DEAD_LETTER,
    "verifications": VERIFICATION,
    "batches": BATCH,
    "blocks": BLOCK,
    "cards": CARD,
    "clocks": CLOCK,
    "documents": DOCUMENT,
}
NEEDS_A_RUN = {"statement_groups", "statements"}


FIGURES = (
    "number",
    "holder",
    "bank_name",
    "opening_balance",
    "closing_balance",
    "total_credits",
    "total_debits",
    "transaction_count",
    "made_at",
)
"""Columns that a statement has exactly when it is final."""
NOTHING = dict.fromkeys(FIGURES) | {"status": "pending"}


def flat(statement: tuple[str, tuple[Any, ...]]) -> tuple[Any, ...]:
    return statement[0], *statement[1]


def insert(table: str, **changes: Any) -> tuple[str, tuple[Any, ...]]:
    row = GOOD[table] | changes
    marks = ", ".join("?" * len(row))
    return f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values())


def refused(database: Database, statement: str, *parameters: Any, because: str = "") -> None:
    """Run a statement that a constraint or a trigger must reject; `because` is a part of its message."""
    with pytest.raises(IntegrityError, match=because), unit_of_work(database) as connection:
        connection.exec_driver_sql(statement, parameters)


def written(database: Database, statement: str, *parameters: Any) -> int:
    """Run a statement and return the number of its rows."""
    with unit_of_work(database) as connection:
        return connection.exec_driver_sql(statement, parameters).rowcount
