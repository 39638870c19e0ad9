"""Transfers, deposits and withdrawals."""

import json
from datetime import datetime
from hashlib import blake2b
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import ConfigDict, Field, model_validator

from api.schemas import fields
from api.schemas.base import Code, CreatedFrom, CreatedTo, Currency, In, Out, PageQuery, Shown, decimals
from core.domain.texts import Stripped
from core.domain.transfers import (
    MAX_DESCRIPTION,
    MAX_IDEMPOTENCY_KEY,
    AcceptedTransfer,
    TransferKind,
    TransferStatus,
    TransferView,
)

Description = Annotated[
    Annotated[Shown, Field(max_length=MAX_DESCRIPTION)] | None,
    Field(
        description="Text for both parties, up to 140 characters without control characters. Null or missing: no text.",
        examples=["rent"],
    ),
]
StatusFilter = Annotated[
    TransferStatus | None, Field(description="Only transfers that have this status now.", examples=["pending"])
]


class NewDeposit(In):
    """Money that comes from outside the bank."""

    to_account_id: Annotated[
        UUID, Field(description="Id of the customer's account that receives the money.", examples=[fields.ACCOUNT])
    ]
    amount: fields.TransferAmount
    description: Description = None


class NewWithdrawal(In):
    """Money that leaves the bank."""

    from_account_id: Annotated[
        UUID, Field(description="Id of the customer's account that pays.", examples=[fields.ACCOUNT])
    ]
    amount: fields.TransferAmount
    description: Description = None


def _named_by(field: str) -> dict[str, Any]:
    return {"required": [field], "properties": {field: {"type": "string"}}}


class NewTransfer(In):
    """An order to move money. The payee is named by id or by account number."""

    model_config = ConfigDict(
        json_schema_extra={
            # Inside `allOf`, so that client generators make one model and not one for each variant.
            "allOf": [{"oneOf": [_named_by("to_account_id"), _named_by("to_account_number")]}],
            "examples": [
                {
                    "from_account_id": "01a20be2-a941-75c0-b1ff-2d5ea1c6165c",
                    "to_account_id": "01a20be2-a9aa-7388-a9c0-c425b4f5af2f",
                    "amount": 1050,
                    "description": "rent",
                }
            ],
        }
    )

    from_account_id: Annotated[
        UUID, Field(description="Id of the account that pays: one of the caller's accounts.", examples=[fields.ACCOUNT])
    ]
    to_account_id: Annotated[
        UUID | None,
        Field(
            description="Id of the account that receives the money. Either this or `to_account_number`.",
            examples=[fields.OTHER_ACCOUNT],
        ),
    ] = None
    to_account_number: Annotated[
        Annotated[str, Field(min_length=1, max_length=34)] | None,
        Field(
            description="Number of the account that receives the money. Either this or `to_account_id`.",
            examples=["XG46GIRO00000000000042"],
        ),
    ] = None
    amount: fields.TransferAmount
    currency: Annotated[
        Currency | None,
        Field(
            description="Currency that both accounts must have. Null or missing: not checked; it is never needed.",
            examples=["USD"],
        ),
    ] = None
    description: Description = None

    @model_validator(mode="after")
    def _one_payee(self) -> Self:
        if (self.to_account_id is None) == (self.to_account_number is None):
            raise ValueError("exactly one of to_account_id and to_account_number is needed")
        return self


FINGERPRINT_BYTES = 16


def fingerprint(path: str, body: In) -> bytes:
    """Digest the content of a request (16 bytes): the same path and the same values give the same digest."""
    return blake2b(f"{path}\n{body.model_dump_json()}".encode(), digest_size=FINGERPRINT_BYTES).digest()


def former_fingerprint(path: str, body: "NewDeposit | NewWithdrawal | NewTransfer") -> bytes | None:
    """Digest a request as older releases did, which kept bidirectional controls. None if it has none."""
    return fingerprint(path, as_given(body, body.description)) if isinstance(body.description, Stripped) else None


def as_given[Order: In](body: Order, description: str | None) -> Order:
    """Return an order with its description as it was sent."""
    if not isinstance(description, Stripped):
        return body
    return body.model_copy(update={"description": description.given})


class TransferQuery(PageQuery):
    """Filters for a list of transfers."""

    status: StatusFilter = None
    account_id: Annotated[
        UUID | None,
        Field(
            description="Only transfers from this account of the caller, and completed transfers to it.",
            examples=[fields.ACCOUNT],
        ),
    ] = None
    idempotency_key: Annotated[
        Annotated[str, Field(min_length=1, max_length=MAX_IDEMPOTENCY_KEY)] | None,
        Field(
            description="Only the transfer that the caller submitted with this `Idempotency-Key`.",
            examples=["rent-2026-11"],
        ),
    ] = None
    batch_id: Annotated[
        UUID | None,
        Field(description="Only the transfers of this batch, which the caller submitted.", examples=[fields.BATCH]),
    ] = None
    created_from: CreatedFrom = None
    created_to: CreatedTo = None


class FailureOut(Out):
    """The reason why a transfer failed."""

    code: Code = Field(
        description="The kind of failure. Later versions may add codes.", examples=["insufficient_funds"]
    )
    message: str = Field(
        description="Explanation for people. Texts may change; programs use `code`.",
        examples=["The available funds do not cover the amount."],
    )
    index: int | None = Field(
        None,
        exclude_if=lambda index: index is None,
        description="Only with `batch_failed`: the line that made the batch fail, counted from 0.",
        examples=[17],
    )


class TransferOut(Out):
    """The current state of a transfer. Amounts are in minor units."""

    id: fields.TransferId
    sequence: int = Field(
        description="Place in the order of acceptance. Transfers are settled in this order.", examples=[2]
    )
    from_account_id: fields.PayerId
    to_account_id: fields.PayeeId
    amount: fields.Minor = Field(description="Amount in minor units: 1050 is 10.50 USD.")
    amount_decimal: fields.Decimal
    currency: fields.Currency
    description: fields.Description
    kind: TransferKind = Field(
        description="`transfer`: between customers' accounts. `deposit`: money from outside the bank. `withdrawal`: "
        "money that leaves the bank.",
        examples=["transfer"],
    )
    status: TransferStatus = Field(
        description="`pending`: accepted, and not executed yet. `completed`: the money has moved. `failed`: the money "
        "could not be moved; see `failure`. `cancelled`: the submitter withdrew it. Only `pending` can change.",
        examples=["pending"],
    )
    failure: FailureOut | None = Field(
        description="The reason why the transfer failed. Null unless `status` is `failed`.", examples=[None]
    )
    created_at: fields.CreatedAt
    settled_at: datetime | None = Field(
        description="Time when the transfer was completed, failed or cancelled: RFC 3339, in UTC. Null while pending.",
        examples=[None, fields.LATER],
    )

    @classmethod
    def of(cls, row: TransferView) -> Self:
        """Show a transfer."""
        code = row.failure_told
        return cls(
            id=row.id,
            sequence=row.sequence,
            from_account_id=row.from_account_id,
            to_account_id=row.to_account_id,
            amount=row.amount,
            amount_decimal=decimals(row.amount, row.currency),
            currency=row.currency,
            description=row.description,
            kind=row.kind,
            status=row.status,
            failure=None if code is None else FailureOut(code=code, message=code.message, index=row.failed_index),
            created_at=row.created_at,
            settled_at=row.settled_at,
        )


def render_accepted(transfer: AcceptedTransfer) -> bytes:
    """Render the body of a 202 from fields that never change.

    A replay answers the same bytes for as long as the transfer exists, so a rendering must not change once it has
    been used. A change needs a new answer version, and the old one stays.
    """
    return _RENDERINGS[transfer.answer_version](transfer)


def _render_accepted_v1(transfer: AcceptedTransfer) -> bytes:
    body = {
        "id": str(transfer.id),
        "sequence": transfer.sequence,
        "from_account_id": str(transfer.from_account_id),
        "to_account_id": str(transfer.to_account_id),
        "amount": transfer.amount,
        "amount_decimal": decimals(transfer.amount, transfer.currency),
        "currency": transfer.currency,
        "description": transfer.description,
        "kind": transfer.kind.value,
        "status": "pending",
        "failure": None,
        "created_at": transfer.created_at.isoformat().replace("+00:00", "Z"),
        "settled_at": None,
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


_RENDERINGS = {1: _render_accepted_v1}
