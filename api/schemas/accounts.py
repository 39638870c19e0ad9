"""Accounts and their transactions."""

from datetime import datetime
from enum import StrEnum
from typing import Self
from uuid import UUID

from pydantic import Field

from api.schemas.base import Currency, In, Out, decimals
from core.domain.accounts import AccountStatus, AccountView
from core.domain.transactions import TransactionView
from core.ids import transaction_id


class OpenAccount(In):
    """A request to open an account."""

    currency: Currency


class AccountOut(Out):
    """An account. Amounts are in minor units; the decimal string next to each is for display only."""

    id: UUID
    account_number: str = Field(examples=["XG46GIRO00000000000042"])
    currency: str
    balance: int
    balance_decimal: str
    available: int = Field(description="balance + overdraft_limit - funds reserved by pending transfers.")
    available_decimal: str
    overdraft_limit: int
    overdraft_limit_decimal: str
    status: AccountStatus
    created_at: datetime

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

    id: UUID
    sequence: int = Field(description="Order of posting.")
    account_id: UUID
    transfer_id: UUID
    type: TransactionType
    amount: int
    amount_decimal: str
    balance_after: int
    balance_after_decimal: str
    related_account_id: UUID
    description: str | None
    timestamp: datetime

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
