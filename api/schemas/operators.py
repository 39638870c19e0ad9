"""Requests and answers for operators."""

from typing import Annotated, Self
from uuid import UUID

from pydantic import Field

from api.schemas import fields
from api.schemas.accounts import AccountOut
from api.schemas.base import In, Out, PageQuery
from api.schemas.transfers import StatusFilter
from api.schemas.users import UserOut
from core.domain.accounts import AccountKind, AccountWithOwner, FreezeScope
from core.domain.money import CUSTOMER_BALANCE_BOUND
from core.domain.pending import MOST_PENDING
from core.domain.users import UserView
from core.services.identity.operators import QueueState


class Freeze(In):
    """The transfers that a frozen account refuses."""

    scope: FreezeScope = Field(
        description="`debit`: the account can receive but not pay. `all`: it can do neither.", examples=["debit"]
    )


class NewLimit(In):
    """A limit on how far below 0 an account's balance may go."""

    amount: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=CUSTOMER_BALANCE_BOUND,
            description="How far below 0 the balance may go, in minor units. 0 ends the overdraft.",
            examples=[50000],
        ),
    ]


class NewPendingLimit(In):
    """A limit on the pending transfers of one user."""

    transfers: Annotated[
        Annotated[int, Field(strict=True, ge=1, le=MOST_PENDING)] | None,
        Field(
            description="How many transfers from the user's accounts may be pending. Null: the number in the settings.",
            examples=[200000],
        ),
    ]


class OperatorUserOut(UserOut):
    """A user with fields that the user does not see."""

    pending_limit: int | None = Field(
        description="How many transfers from the user's accounts may be pending. Null: the number in the settings.",
        examples=[None, 200000],
    )

    @classmethod
    def of(cls, user: UserView) -> Self:
        """Show a user to an operator."""
        return cls(**UserOut.of(user).model_dump(), pending_limit=user.pending_limit)


class AllTransfersQuery(PageQuery):
    """Filters for the list of all transfers."""

    status: StatusFilter = None


class OperatorAccountOut(AccountOut):
    """An account with fields that its owner does not see."""

    kind: AccountKind = Field(
        description="`customer`: a customer's account. `external`: the account of a currency that deposits come from "
        "and withdrawals go to.",
        examples=["customer"],
    )
    owner_id: UUID | None = Field(
        description="Id of the user who owns the account. Null for an external account.", examples=[fields.USER]
    )
    reserved: fields.Minor = Field(
        description="Sum of the pending transfers from the account, in minor units.", examples=[1050]
    )
    freeze_scope: FreezeScope | None = Field(
        description="Transfers that the account refuses while it is frozen. Null while it is not frozen.",
        examples=[None, "debit"],
    )

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

    pending: int = Field(description="Number of pending transfers.", examples=[12])
    oldest_age_seconds: float | None = Field(
        description="Age of the oldest pending transfer in seconds. Null if no transfer is pending.", examples=[0.27]
    )
    last_settled_sequence: int = Field(
        description="`sequence` of a transfer: it and every earlier transfer have ended. 0 before the first one.",
        examples=[4711],
    )
    parked: int = Field(
        description="Number of messages parked because their work kept failing; see `GET /operator/dead-letters`.",
        examples=[0],
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
