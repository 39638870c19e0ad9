"""Transfers: how they are accepted, waited for and settled."""

from pydantic import Field

from core.domain.pending import PendingBounds
from core.settings.groups.base import SettingsGroup


class TransferSettings(SettingsGroup):
    """The queue of transfers, from the request to the settlement."""

    title = "Transfers"

    idempotency_key_required: bool = Field(
        False, description="Reject a transfer, deposit or withdrawal without an `Idempotency-Key`."
    )
    bulk_body_bytes: int = Field(4_194_304, ge=1024, description="Largest body of a batch of transfers.")
    bulk_requests: int = Field(
        8,
        ge=1,
        description="Batches that may be in memory at the same time, half of them (at least one) from one user. One "
        "more is answered 503.",
    )
    bulk_pending: int = Field(
        500_000,
        ge=1,
        description="Pending transfers at which further batches are answered 503.",
    )
    pending_per_user: int = Field(
        50_000,
        ge=1,
        description="Transfers from the accounts of one user that may be pending. One more, and a batch that would "
        "exceed it, is answered 429 `too_many_pending`. Operators can set another number for one user.",
    )
    pending_seconds: float = Field(
        0.25,
        ge=0,
        le=3600,
        description="Age of the oldest pending transfer, in seconds, from which on a batch is answered 429 "
        "`too_many_pending` if 1000 or more transfers from its user's accounts are pending. It bounds the time that "
        "others wait behind one user. `0`: no such bound.",
    )
    intake_waiting: int = Field(
        2048,
        ge=1,
        description="Requests that may wait to be written to the database. One more is answered 503 `unavailable`.",
    )
    intake_group: int = Field(512, ge=1, le=5000, description="Largest number of requests in one unit of work.")
    intake_seconds: float = Field(
        5,
        gt=0,
        description="Time in which a waiting request must be started. After it, the request is answered 503 "
        "`unavailable`.",
    )
    wait_seconds: int = Field(30, ge=0, le=300, description="Longest wait that `Prefer: wait=N` can ask for.")
    wait_poll_seconds: float = Field(
        0.005,
        gt=0,
        le=1,
        description="Time between two reads of the transfers that clients wait for. One query reads all of them.",
    )
    settlement_batch: int = Field(
        5000, ge=1, le=50_000, description="Largest number of transfers that are settled in one unit of work."
    )
    settlement_lock_ms: float = Field(
        2,
        gt=0,
        description="Milliseconds after which a settlement releases the database if another process waits to write.",
    )
    sweep_seconds: float = Field(
        1, gt=0, le=60, description="Time between two searches of the scheduler for forgotten transfers."
    )
    sweep_age_seconds: float = Field(
        2,
        gt=0,
        le=600,
        description="Age at which a pending transfer counts as forgotten. The scheduler then wakes the worker.",
    )

    @property
    def pending_bounds(self) -> PendingBounds:
        """How many transfers may be pending."""
        return PendingBounds(total=self.bulk_pending, per_user=self.pending_per_user, seconds=self.pending_seconds)
