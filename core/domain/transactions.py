"""Transactions, as the owner of the account sees them."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from core.domain.transfers import TransferKind


@dataclass(frozen=True, slots=True)
class TransactionView:
    """One leg of an executed transfer, with the public ids of both accounts. Amounts are minor units."""

    id: int
    account_id: UUID
    transfer_id: UUID
    kind: TransferKind
    """Kind of its transfer."""
    amount: int
    """Negative for a debit."""
    balance_after: int
    related_account_id: UUID
    related_account_number: str
    description: str | None
    currency: str
    posted_at: datetime
    previous_id: int | None
