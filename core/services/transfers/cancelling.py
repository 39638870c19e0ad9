"""Cancelling a pending transfer."""

from dataclasses import replace
from uuid import UUID

from sqlalchemy import Connection

from core.clock import now_us, to_datetime, to_us
from core.domain.blocks import Ending, cancellation
from core.domain.errors import Refusal
from core.domain.transfers import (
    TRANSITIONS,
    TransferError,
    TransferStatus,
    TransferView,
)
from core.services import verification
from core.storage import accounts, batches, blocks, isolations, lanes, transfers


def cancel(connection: Connection, *, user_id: int, transfer_id: UUID) -> TransferView:
    """Cancel a pending transfer for its submitter, and release its funds. Repeating it gives the same answer.

    Raises Refusal: `transfer_not_found` for users that may not read it, `transfer_not_cancellable` for users other than
    its submitter and if it has ended otherwise. Raises LedgerHalted, whose breach the caller must store.
    """
    transfer = transfers.read(connection, transfer_id)
    if transfer is None or not transfer.may_be_read_by(user_id):
        raise Refusal(TransferError.NOT_FOUND)
    if transfer.submitted_by != user_id:
        raise Refusal(TransferError.NOT_CANCELLABLE, detail="Only the submitter of a transfer can cancel it.")
    if transfer.status is TransferStatus.CANCELLED:
        return transfer
    if TransferStatus.CANCELLED not in TRANSITIONS[transfer.status]:
        raise Refusal(TransferError.NOT_CANCELLABLE)
    if batches.is_atomic(connection, transfer.sequence):
        raise Refusal(TransferError.NOT_CANCELLABLE, detail="The transfers of an atomic batch end together.")
    verification.require_sound(connection)
    terms = transfers.terms_of(connection, transfer.sequence)
    if terms.from_account_id in isolations.accounts(connection):
        raise Refusal(TransferError.NOT_CANCELLABLE, detail="The payer's account is isolated; the transfer will fail.")
    before = lanes.read(connection)
    ended_at = max(now_us(), to_us(transfer.created_at))
    transfers.end(connection, [Ending(terms, TransferStatus.CANCELLED.value, ended_at, None)])
    accounts.release(connection, terms.from_account_id, terms.amount)
    blocks.add(connection, cancellation(blocks.head(connection), terms, ended_at))
    lanes.settled(connection, before, next_leg=before.next_leg, posted_at=before.posted_at, through=before.watermark)
    return replace(transfer, status=TransferStatus.CANCELLED, settled_at=to_datetime(ended_at))
