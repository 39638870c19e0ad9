"""Requests and answers for operators."""

from typing import Annotated, Self
from uuid import UUID

from pydantic import Field

from api.schemas.accounts import AccountOut
from api.schemas.base import In, Out, PageQuery
from core.domain.accounts import AccountKind, AccountWithOwner, FreezeScope
from core.domain.money import CUSTOMER_BALANCE_BOUND
from core.domain.transfers import TransferStatus
from core.services.identity.operators import QueueState


class Freeze(In):
    """The transfers that a frozen account refuses."""

    scope: FreezeScope


class NewLimit(In):
    """A limit on how far below 0 an account's balance may go."""

    amount: Annotated[int, Field(strict=True, ge=0, le=CUSTOMER_BALANCE_BOUND, description="Minor units.")]


class AllTransfersQuery(PageQuery):
    """Filters for the list of all transfers."""

    status: TransferStatus | None = None


class OperatorAccountOut(AccountOut):
    """An account with fields that its owner does not see."""

    kind: AccountKind
    owner_id: UUID | None = Field(description="Null for an external account.")
    reserved: int = Field(description="The debits of its pending transfers, in minor units.")
    freeze_scope: FreezeScope | None

    @classmethod
    def with_owner(cls, found: AccountWithOwner) -> Self:
        """Show an account to an operator."""
        account, owner_id = found
        return cls(
            **AccountOut.of(account).model_dump(),
            kind=account.kind,
            owner_id=owner_id,
            reserved=account.reserved,
            freeze_scope=account.freeze_scope,
        )


class QueueOut(Out):
    """The state of the settlement queue."""

    pending: int
    oldest_age_seconds: float | None
    last_settled_sequence: int = Field(description="Every transfer up to this one has ended.")
    parked: int = Field(
        description="Messages parked because their work kept failing; see `GET /operator/dead-letters`."
    )

    @classmethod
    def of(cls, state: QueueState) -> Self:
        """Show the queue."""
        return cls(
            pending=state.pending,
            oldest_age_seconds=state.oldest_age_seconds,
            last_settled_sequence=state.last_settled_sequence,
            parked=state.parked,
        )
