"""Bounds of pending transfers. They are settled in the order of acceptance, so each waits for all earlier ones."""

from dataclasses import dataclass
from math import ceil

from core.domain.errors import RateLimited
from core.domain.transfers import TransferError

FEW = 1000
"""A user with fewer pending transfers may submit another batch at any time: they are settled in a moment."""

MOST_PENDING = 10_000_000
"""The highest number that operators can set for one user."""

LONGEST_RETRY_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingBounds:
    """How many transfers may be pending."""

    total: int
    """All pending transfers, from which on no further batch is accepted."""
    per_user: int
    """Those from the accounts of one user, unless operators have set another number for the user."""
    seconds: float
    """Age of the oldest pending transfer from which on a user with `FEW` or more gets no further batch accepted.

    0: no such bound.
    """


def too_many(held: int, most: int, *, waited_us: int) -> RateLimited:
    """Make the refusal of a user who has `held` pending transfers and may have `most`.

    The settlement of a new transfer takes about as long as the oldest one has waited, so that is when to try again.
    """
    return _refusal(f"{held} transfers from this user's accounts are pending, and {most} may be.", waited_us)


def too_long(held: int, *, waited_us: int) -> RateLimited:
    """Make the refusal of a further batch of a user behind whose transfers all others wait too long already."""
    return _refusal(f"{held} transfers from this user's accounts are pending; they are settled first.", waited_us)


def _refusal(detail: str, waited_us: int) -> RateLimited:
    seconds = min(max(1, ceil(waited_us / 1e6)), LONGEST_RETRY_SECONDS)
    return RateLimited(seconds, TransferError.TOO_MANY_PENDING, detail=f"{detail} Nothing was recorded.")
