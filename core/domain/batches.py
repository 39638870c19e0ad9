"""Batches: many transfers in one request."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from core.domain.errors import ErrorCode
from core.domain.transfers import TransferRequest

MAX_BATCH = 5000
"""Transfers in one batch."""


class BatchError(ErrorCode):
    """Errors about batches."""

    FAILED = (
        "batch_failed",
        None,
        "Another transfer of the atomic batch failed, so the whole batch failed.",
        "Read the reason of the line that `failure.index` names.",
    )


class BatchMode(StrEnum):
    """Whether the transfers of a batch depend on each other."""

    INDEPENDENT = "independent"
    """They do not: each transfer is accepted or refused, and completes or fails, on its own."""
    ATOMIC = "atomic"
    """They do: either all transfers are accepted or none, and either all complete or none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRequest:
    """An order of many transfers by one user. Its form has been checked, the funds have not.

    The idempotency key belongs to the whole request. The transfers themselves have no keys.
    """

    mode: BatchMode
    submitted_by: int
    transfers: Sequence[TransferRequest]
    idempotency_key: str
    fingerprint: bytes
    former_fingerprint: bytes | None = None
    """The digest that an older release made of the same request, if that release kept what is removed now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedBatch:
    """A batch as it was accepted. It holds only what never changes, so that its 202 can be written again."""

    id: UUID | None
    """None if every line was refused. Then nothing was recorded, and the key is still free."""
    lines: Sequence[bytes | ErrorCode]
    """For each line, in the order of the request: the id of its transfer (16 bytes), or the reason for its refusal."""
    answer_version: int
    first_sequence: int = 0
    """Sequence of the first accepted transfer. The others follow without a gap."""
    replayed: bool = False
    """True if the key had been used for this batch before, so nothing new was recorded."""
    guesses: int = 0
    """Number of refused lines that may have been sent to find out something about a stranger's account. A replay tells
    nothing new, so it has none."""

    @property
    def accepted(self) -> int:
        """The number of lines that became transfers."""
        return sum(type(line) is bytes for line in self.lines)
