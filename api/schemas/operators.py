"""What operators send and see."""

from typing import Annotated, Self
from uuid import UUID

from pydantic import Field

from api.schemas.accounts import AccountOut
from api.schemas.base import In, Out, PageQuery
from core.domain.accounts import AccountKind, FreezeScope
from core.domain.money import CUSTOMER_BALANCE_BOUND
from core.domain.transfers import TransferStatus
from core.models import Account
from core.services.operators import QueueState


class Freeze(In):
    """What the account shall not do."""

    scope: FreezeScope


class NewLimit(In):
    """How far below 0 an account may go."""

    amount: Annotated[int, Field(strict=True, ge=0, le=CUSTOMER_BALANCE_BOUND, description="Minor units.")]


class AllTransfersQuery(PageQuery):
    """Which of all transfers a list shows."""

    status: TransferStatus | None = None


class OperatorAccountOut(AccountOut):
    """An account with what its owner is not shown."""

    kind: AccountKind
    owner_id: UUID | None = Field(description="Null for an external account.")
    reserved: int = Field(description="The debits of its pending transfers, in minor units.")
    freeze_scope: FreezeScope | None

    @classmethod
    def with_owner(cls, account: Account, owner_id: UUID | None) -> Self:
        """Show an account to an operator."""
        return cls(
            **AccountOut.of(account).model_dump(),
            kind=account.kind,
            owner_id=owner_id,
            reserved=account.reserved,
            freeze_scope=account.freeze_scope,
        )


class QueueOut(Out):
    """What waits to be settled."""

    pending: int
    oldest_age_seconds: float | None
    last_settled_sequence: int = Field(description="Every transfer up to this one has ended.")
    parked: int = Field(description="Messages whose work kept failing: see `GET /operator/dead-letters`.")

    @classmethod
    def of(cls, state: QueueState) -> Self:
        """Show the queue."""
        return cls(
            pending=state.pending,
            oldest_age_seconds=state.oldest_age_seconds,
            last_settled_sequence=state.last_settled_sequence,
            parked=state.parked,
        )
