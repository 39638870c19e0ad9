"""Batches: many transfers in one request."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from core.domain.errors import ErrorCode
from core.domain.transfers import TransferRequest

MAX_BATCH = 5000
"""Transfers in one batch."""


class BatchMode(StrEnum):
    """What the transfers of a batch have to do with each other."""

    INDEPENDENT = "independent"
    """Nothing: each is accepted or refused, and completes or fails, for itself."""
    ATOMIC = "atomic"
    """Everything: all are accepted or none, and all complete or none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRequest:
    """An order of many transfers by one user, checked for form and not yet for funds.

    The key is the whole request's. The transfers themselves carry none.
    """

    mode: BatchMode
    submitted_by: int
    transfers: Sequence[TransferRequest]
    idempotency_key: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedBatch:
    """A batch as it was accepted: only what never changes again, so that its 202 can be written anew."""

    id: UUID | None
    """None where every line was refused: nothing was recorded, and the key is still free."""
    lines: Sequence[bytes | ErrorCode]
    """For each line, in the order of the request: the id of its transfer (16 bytes), or why it was refused."""
    answer_version: int
    first_sequence: int = 0
    """Of its accepted transfers, which follow each other without a gap."""
    replayed: bool = False
    """True when the key had been used for it before, so nothing new was recorded."""

    @property
    def accepted(self) -> int:
        """How many of its lines became transfers."""
        return sum(type(line) is bytes for line in self.lines)
