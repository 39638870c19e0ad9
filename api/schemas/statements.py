"""Statements."""

import re
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import AfterValidator, Field

from api.schemas.accounts import TransactionOut
from api.schemas.base import DEFAULT_LIMIT, LARGEST_LIMIT, Cursor, Digits, In, Out, decimals
from core.domain.statements import BankDetails, PendingStatement, Period, StatementStatus, StatementView

# The years of core/domain/statements.py, as a pattern: 1970 to 9998.
_YEAR = "(19[7-9][0-9]|[2-8][0-9]{3}|9[0-8][0-9]{2}|99[0-8][0-9]|999[0-8])"
_MONTH = f"^{_YEAR}-(0[1-9]|1[0-2])$"


def _month(label: str) -> str:
    if not re.fullmatch(_MONTH, label):
        raise ValueError("must be a month such as 2026-10, from 1970-01 to 9998-12")
    return str(Period.parse(label))


Month = Annotated[
    str,
    AfterValidator(_month),
    Field(
        examples=["2026-10"],
        description="A calendar month, YYYY-MM.",
        json_schema_extra={"pattern": _MONTH},  # not `pattern=`, whose message has no example
    ),
]


class StatementQuery(In):
    """A page of a statement's transactions in JSON: `limit` of them, starting at the newest or at `cursor`."""

    limit: Annotated[int, Field(ge=1, le=LARGEST_LIMIT), Digits] = DEFAULT_LIMIT
    cursor: Annotated[Cursor | None, Field(description="`next_cursor` of the previous page.")] = None


class MonthQuery(StatementQuery):
    """A month and a page of its transactions."""

    month: Month | None = None


class AskForStatement(In):
    """A request for the statement of a finished month."""

    month: Month


class BankOut(Out):
    """The bank's details at the time when the statement was made."""

    name: str
    address: str | None
    bic: str | None

    @classmethod
    def of(cls, bank: BankDetails) -> Self:
        """Show the bank."""
        return cls(name=bank.name, address=bank.address, bic=bank.bic)


class StatementOut(Out):
    """A statement without its transactions. Amounts are in minor units. All figures are null while it is pending."""

    id: UUID | None = Field(description="Null while the statement is provisional.")
    account_id: UUID
    period: str = Field(examples=["2026-10"])
    status: StatementStatus
    currency: str
    number: int | None = Field(None, description="The number of the statement within its account.")
    account_number: str | None = None
    holder: str | None = None
    bank: BankOut | None = None
    time_zone: str | None = Field(None, description="The time zone that defines the start and the end of the month.")
    starts_at: datetime | None = None
    ends_at: datetime | None = Field(None, description="The first instant after the month.")
    opening_balance: int | None = None
    opening_balance_decimal: str | None = None
    closing_balance: int | None = None
    closing_balance_decimal: str | None = None
    total_credits: int | None = None
    total_credits_decimal: str | None = None
    total_debits: int | None = None
    total_debits_decimal: str | None = None
    transaction_count: int | None = None
    made_at: datetime | None = Field(None, description="When the statement was made or computed.")

    @classmethod
    def of(cls, statement: StatementView | PendingStatement) -> Self:
        """Show a statement."""
        return cls(**_fields(statement))


class FullStatementOut(StatementOut):
    """A statement with a page of its transactions, newest first."""

    transactions: list[TransactionOut]
    limit: int
    next_cursor: str | None

    @classmethod
    def with_transactions(
        cls,
        statement: StatementView | PendingStatement,
        transactions: list[TransactionOut],
        *,
        limit: int,
        next_cursor: str | None,
    ) -> Self:
        """Show a statement and some of its transactions."""
        return cls(
            **_fields(statement),
            transactions=transactions,
            limit=limit,
            next_cursor=next_cursor,
        )


def _fields(statement: StatementView | PendingStatement) -> dict[str, Any]:
    names = {
        "id": statement.id,
        "account_id": statement.account_id,
        "period": str(statement.period),
        "currency": statement.currency,
    }
    if isinstance(statement, PendingStatement):
        return {**names, "status": StatementStatus.PENDING}
    amounts = {
        name: getattr(statement, name)
        for name in ("opening_balance", "closing_balance", "total_credits", "total_debits")
    }
    return {
        **names,
        **amounts,
        **{f"{name}_decimal": decimals(amount, statement.currency) for name, amount in amounts.items()},
        "status": statement.status,
        "number": statement.number,
        "account_number": statement.account_number,
        "holder": statement.holder,
        "bank": BankOut.of(statement.bank),
        "time_zone": statement.time_zone,
        "starts_at": statement.starts_at,
        "ends_at": statement.ends_at,
        "transaction_count": statement.transaction_count,
        "made_at": statement.made_at,
    }
