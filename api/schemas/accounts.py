"""Accounts and their transactions."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self
from uuid import UUID

from pydantic import Field

from api.schemas import fields
from api.schemas.base import Currency, In, Out, decimals
from core.domain.accounts import AccountStatus, AccountView
from core.domain.transactions import TransactionView
from core.ids import transaction_id


class OpenAccount(In):
    """A request to open an account."""

    currency: Annotated[
        Currency, Field(description="Currency of the account. It cannot be changed later.", examples=["USD"])
    ]


class AccountOut(Out):
    """An account. Amounts are in minor units; the decimal string next to each is for display only."""

    id: fields.AccountId
    account_number: fields.AccountNumber
    currency: fields.Currency
    balance: fields.Minor = Field(
        description="Sum of all executed transfers, in minor units. Negative while the overdraft is in use.",
        examples=[10000],
    )
    balance_decimal: fields.Decimal = Field(examples=["100.00"])
    available: fields.Minor = Field(
        description="Amount that the account can pay now, in minor units: `balance` + `overdraft_limit` - the amounts "
        "that pending transfers have reserved.",
        examples=[8950],
    )
    available_decimal: fields.Decimal = Field(examples=["89.50"])
    overdraft_limit: fields.Minor = Field(
        description="How far below 0 the balance may go, in minor units. Operators set it.", examples=[0]
    )
    overdraft_limit_decimal: fields.Decimal = Field(examples=["0.00"])
    status: AccountStatus = Field(
        description="`active`: the account pays and receives. `frozen`: an operator has stopped its payments. "
        "`closed`: permanently out of use.",
        examples=["active"],
    )
    created_at: fields.CreatedAt

    @classmethod
    def of(cls, account: AccountView) -> Self:
        """Show an account."""
        return cls(
            id=account.public_id,
            account_number=account.account_number,
            currency=account.currency,
            balance=account.balance,
            balance_decimal=decimals(account.balance, account.currency),
            available=account.available,
            available_decimal=decimals(account.available, account.currency),
            overdraft_limit=account.overdraft_limit,
            overdraft_limit_decimal=decimals(account.overdraft_limit, account.currency),
            status=account.status,
            created_at=account.created_at,
        )


class TransactionType(StrEnum):
    """The direction of the money, seen from the account."""

    DEBIT = "debit"
    CREDIT = "credit"


class TransactionOut(Out):
    """One leg of an executed transfer."""

    id: UUID = Field(description="Id of the transaction.", examples=["01a20be2-b7d3-7000-8000-000000000003"])
    sequence: int = Field(description="Place in the order of posting, over all accounts.", examples=[3])
    account_id: fields.AccountId
    transfer_id: fields.TransferId
    type: TransactionType = Field(
        description="`debit`: money left the account. `credit`: money arrived.", examples=["debit"]
    )
    amount: fields.Minor = Field(description="Amount in minor units, always positive: `type` has the direction.")
    amount_decimal: fields.Decimal
    balance_after: fields.Minor = Field(
        description="Balance of the account after this transaction, in minor units.", examples=[8950]
    )
    balance_after_decimal: fields.Decimal = Field(examples=["89.50"])
    related_account_id: UUID = Field(
        description="Id of the account on the other side of the transfer.", examples=[fields.OTHER_ACCOUNT]
    )
    description: fields.Description
    timestamp: datetime = Field(description="Time of posting: RFC 3339, in UTC.", examples=[fields.LATER])

    @classmethod
    def of(cls, row: TransactionView) -> Self:
        """Show a transaction."""
        return cls(
            id=transaction_id(row.id),
            sequence=row.id,
            account_id=row.account_id,
            transfer_id=row.transfer_id,
            type=TransactionType.DEBIT if row.amount < 0 else TransactionType.CREDIT,
            amount=abs(row.amount),
            amount_decimal=decimals(abs(row.amount), row.currency),
            balance_after=row.balance_after,
            balance_after_decimal=decimals(row.balance_after, row.currency),
            related_account_id=row.related_account_id,
            description=row.description,
            timestamp=row.posted_at,
        )
