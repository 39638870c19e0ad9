"""Statements."""

import re
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import AfterValidator, Field

from api.schemas import fields
from api.schemas.accounts import TransactionOut
from api.schemas.base import DEFAULT_LIMIT, In, Limit, NextCursor, NextPage, Out, decimals
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
        description="Calendar month in the bank's time zone, `YYYY-MM`. It must be over.",
        json_schema_extra={"pattern": _MONTH},  # not `pattern=`, whose message has no example
    ),
]


class StatementQuery(In):
    """A page of a statement's transactions in JSON: `limit` of them, starting at the newest or at `cursor`."""

    limit: Annotated[Limit, Field(description="Largest number of transactions in the answer, if it is JSON.")] = (
        DEFAULT_LIMIT
    )
    cursor: NextPage = None


class MonthQuery(StatementQuery):
    """A month and a page of its transactions."""

    month: Annotated[
        Month | None,
        Field(description="Calendar month in the bank's time zone, `YYYY-MM`. Without it, the current month."),
    ] = None


class AskForStatement(In):
    """A request for the statement of a finished month."""

    month: Month


class BankOut(Out):
    """The bank's details at the time when the statement was made."""

    name: str = Field(description="Name of the bank.", examples=["Giro"])
    address: str | None = Field(
        description="Postal address on one line. Null if the bank has set none.",
        examples=["1 Main Street, Springfield"],
    )
    bic: str | None = Field(
        description="Business identifier code (ISO 9362). Null if the bank has set none.", examples=["GIROXGXX"]
    )

    @classmethod
    def of(cls, bank: BankDetails) -> Self:
        """Show the bank."""
        return cls(name=bank.name, address=bank.address, bic=bank.bic)


OptionalDecimal = Annotated[
    str | None,
    Field(
        description="The amount of the field without `_decimal`, in major units with all decimals of the currency. For "
        "display only. Null while pending."
    ),
]


class StatementOut(Out):
    """A statement without its transactions. Amounts are in minor units. All figures are null while it is pending."""

    id: UUID | None = Field(
        description="Id of the statement. Null while it is provisional.", examples=[fields.STATEMENT]
    )
    account_id: fields.AccountId
    period: fields.Period
    status: StatementStatus = Field(
        description="`pending`: requested, and not made yet. `final`: made, and never changed again. `provisional`: "
        "computed for this answer; later transactions of the month are missing.",
        examples=["final"],
    )
    currency: fields.Currency
    number: int | None = Field(
        None,
        description="Number of the statement within its account, counted from 1. Null unless the statement is final.",
        examples=[11],
    )
    account_number: str | None = Field(
        None, description="Number of the account. Null while pending.", examples=["XG46GIRO00000000000042"]
    )
    holder: str | None = Field(
        None,
        description="Name of the account's owner, or the e-mail address if the owner has given no name. Null while "
        "pending.",
        examples=["Ada"],
    )
    bank: BankOut | None = Field(
        None, description="The bank's details when the statement was made. Null while pending."
    )
    time_zone: fields.TimeZone | None = Field(
        None,
        description="IANA name of the time zone that defines the start and the end of the month. Null while pending.",
        examples=["America/New_York"],
    )
    starts_at: fields.StartsAt | None = Field(
        None,
        description="First instant of the month: RFC 3339, in UTC. Null while pending.",
        examples=["2026-10-01T04:00:00Z"],
    )
    ends_at: fields.EndsAt | None = Field(
        None,
        description="First instant after the month: RFC 3339, in UTC. Null while pending.",
        examples=["2026-11-01T04:00:00Z"],
    )
    opening_balance: fields.Minor | None = Field(
        None, description="Balance at the start of the month, in minor units. Null while pending.", examples=[10000]
    )
    opening_balance_decimal: OptionalDecimal = Field(None, examples=["100.00"])
    closing_balance: fields.Minor | None = Field(
        None,
        description="Balance at the end of the month, in minor units: `opening_balance` + `total_credits` - "
        "`total_debits`. Null while pending.",
        examples=[8950],
    )
    closing_balance_decimal: OptionalDecimal = Field(None, examples=["89.50"])
    total_credits: fields.Minor | None = Field(
        None, description="Sum of the credits of the month, in minor units. Null while pending.", examples=[0]
    )
    total_credits_decimal: OptionalDecimal = Field(None, examples=["0.00"])
    total_debits: fields.Minor | None = Field(
        None,
        description="Sum of the debits of the month, in minor units. Not negative. Null while pending.",
        examples=[1050],
    )
    total_debits_decimal: OptionalDecimal = Field(None, examples=["10.50"])
    transaction_count: int | None = Field(
        None, description="Number of transactions in the month. Null while pending.", examples=[1]
    )
    made_at: datetime | None = Field(
        None,
        description="Time when the statement was made or, if it is provisional, computed: RFC 3339, in UTC. Null while "
        "pending.",
        examples=["2026-11-01T05:00:04.120905Z"],
    )

    @classmethod
    def of(cls, statement: StatementView | PendingStatement) -> Self:
        """Show a statement."""
        return cls(**_fields(statement))


class FullStatementOut(StatementOut):
    """A statement with a page of its transactions, newest first."""

    transactions: list[TransactionOut] = Field(
        description="The transactions of this page, newest first. Empty while the statement is pending."
    )
    limit: int = Field(description="`limit` of the request, or its default.", examples=[DEFAULT_LIMIT])
    next_cursor: NextCursor

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
