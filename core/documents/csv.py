"""Statements as CSV (RFC 4180): one row for the opening balance, one per transaction, one for the closing balance."""

import csv
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from io import StringIO

from core.documents.wording import is_provisional, reaches_until
from core.domain.money import decimal_string
from core.domain.statements import StatementView
from core.domain.texts import without_directions
from core.domain.transactions import TransactionView
from core.ids import transaction_id

COLUMNS = (
    "type",
    "sequence",
    "timestamp",
    "transaction_id",
    "transfer_id",
    "related_account_number",
    "description",
    "debit",
    "credit",
    "balance",
    "currency",
)

_FORMULA = re.compile(r'(?:^|(?<=[;|\t]))(?="*[=+\-@\t\r＝＋－＠])')
"""The places where a spreadsheet would read a formula: at the start, or after a character that may split fields."""


def render(statement: StatementView, transactions: Sequence[TransactionView]) -> bytes:
    """Write a statement and all of its transactions, oldest first, as UTF-8 without a byte order mark."""
    text = StringIO(newline="")
    rows = csv.writer(text, lineterminator="\r\n")
    rows.writerow(COLUMNS)
    rows.writerow(_opening(statement))
    rows.writerows(map(_row, transactions))
    rows.writerow(_closing(statement))
    return text.getvalue().encode("utf-8", "replace")


def _opening(statement: StatementView) -> tuple[object, ...]:
    balance = decimal_string(statement.opening_balance, statement.currency)
    return ("opening", "", _timestamp(statement.starts_at), "", "", "", "", "", "", balance, statement.currency)


def _row(transaction: TransactionView) -> tuple[object, ...]:
    amount = decimal_string(abs(transaction.amount), transaction.currency)
    return (
        transaction.kind.value,
        transaction.id,
        _timestamp(transaction.posted_at),
        transaction_id(transaction.id),
        transaction.transfer_id,
        transaction.related_account_number,
        _harmless(transaction.description or ""),
        amount if transaction.amount < 0 else "",
        "" if transaction.amount < 0 else amount,
        decimal_string(transaction.balance_after, transaction.currency),
        transaction.currency,
    )


def _closing(statement: StatementView) -> tuple[object, ...]:
    note = "provisional" if is_provisional(statement) else ""
    amounts = (statement.total_debits, statement.total_credits, statement.closing_balance)
    written = (decimal_string(amount, statement.currency) for amount in amounts)
    return ("closing", "", _timestamp(reaches_until(statement)), "", "", "", note, *written, statement.currency)


def _harmless(text: str) -> str:
    """Put an apostrophe before text that a spreadsheet would compute: another user may have written it."""
    return _FORMULA.sub("'", without_directions(text))


def _timestamp(moment: datetime) -> str:
    """Write an instant in the API's format (RFC 3339, in UTC)."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
