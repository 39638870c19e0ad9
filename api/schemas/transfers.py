"""Transfers, deposits and withdrawals."""

import json
from datetime import datetime
from hashlib import blake2b
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import ConfigDict, Field, model_validator

from api.schemas.base import Amount, Code, Currency, In, Moment, Out, PageQuery, Text, decimals
from core.domain.transfers import (
    MAX_DESCRIPTION,
    MAX_IDEMPOTENCY_KEY,
    AcceptedTransfer,
    TransferKind,
    TransferStatus,
    TransferView,
)

Description = Annotated[Text, Field(max_length=MAX_DESCRIPTION, examples=["rent"])]


class NewDeposit(In):
    """Money that comes from outside the bank."""

    to_account_id: UUID
    amount: Amount
    description: Description | None = None


class NewWithdrawal(In):
    """Money that leaves the bank."""

    from_account_id: UUID
    amount: Amount
    description: Description | None = None


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

    from_account_id: UUID
    to_account_id: UUID | None = None
    to_account_number: Annotated[str, Field(min_length=1, max_length=34)] | None = None
    amount: Amount
    currency: Currency | None = None
    description: Description | None = None

    @model_validator(mode="after")
    def _one_payee(self) -> Self:
        if (self.to_account_id is None) == (self.to_account_number is None):
            raise ValueError("exactly one of to_account_id and to_account_number is needed")
        return self


FINGERPRINT_BYTES = 16


def fingerprint(path: str, body: In) -> bytes:
    """Digest the content of a request (16 bytes): the same path and the same values give the same digest."""
    return blake2b(f"{path}\n{body.model_dump_json()}".encode(), digest_size=FINGERPRINT_BYTES).digest()


class TransferQuery(PageQuery):
    """Filters for a list of transfers."""

    status: TransferStatus | None = None
    account_id: UUID | None = None
    idempotency_key: Annotated[str, Field(min_length=1, max_length=MAX_IDEMPOTENCY_KEY)] | None = None
    batch_id: UUID | None = None
    created_from: Moment | None = None
    created_to: Annotated[Moment, Field(description="Exclusive.")] | None = None


class FailureOut(Out):
    """The reason why a transfer failed."""

    code: Code
    message: str
    index: int | None = Field(
        None,
        exclude_if=lambda index: index is None,
        description="With `batch_failed`: the line that made the batch fail, counted from 0.",
    )


class TransferOut(Out):
    """The current state of a transfer. Amounts are in minor units."""

    id: UUID
    sequence: int = Field(description="Order of acceptance, and so of settlement.")
    from_account_id: UUID
    to_account_id: UUID
    amount: int
    amount_decimal: str
    currency: str
    description: str | None
    kind: TransferKind
    status: TransferStatus
    failure: FailureOut | None
    created_at: datetime
    settled_at: datetime | None = Field(description="When the transfer was completed, failed or cancelled.")

    @classmethod
    def of(cls, row: TransferView) -> Self:
        """Show a transfer."""
        code = row.failure_code
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
