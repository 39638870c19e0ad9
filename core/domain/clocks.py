"""The trust in the wall clock: whether it agrees with the last time at which it was observed.

All times are in microseconds: those of the wall clock since the epoch, the uptime since the machine's start.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

LARGEST_JUMP_US = 86_400_000_000
"""A day. Network time corrects far smaller errors, and no service needs more for its own restart."""


class Doubt(StrEnum):
    """Why the wall clock is not trusted."""

    JUMPED = "jumped"
    """It moved by another amount than the monotonic clock, since the machine's start."""
    UNKNOWN_GAP = "unknown_gap"
    """The machine was started since, and nothing tells how long it was off."""
    BEHIND_LEDGER = "behind_ledger"
    """The ledger has a later time: the clock was set back, or was ahead before."""


class Reading(NamedTuple):
    """What the clocks show at one moment."""

    wall_at: int
    uptime: int
    """Time since the machine's start, with the time that it slept."""
    boot_id: str
    """Names this start of the machine; empty if it is unknown."""


class Observation(NamedTuple):
    """The newest reading that was trusted, and the newest time in the ledger then."""

    reading: Reading
    ledger_at: int


@dataclass(frozen=True, slots=True)
class ClockState:
    """What the wall clock shows, what it should show, and whether it is trusted."""

    now: Reading
    ledger_at: int
    """The newest time in the ledger; 0 in an empty one."""
    expected_at: int | None
    """What the wall clock should show; None before the first observation."""
    doubt: Doubt | None

    @property
    def difference(self) -> int:
        """How far the wall clock is ahead of what it should show; negative if it is behind."""
        return 0 if self.expected_at is None else self.now.wall_at - self.expected_at


def judge(now: Reading, last: Observation | None, ledger_at: int) -> ClockState:
    """Compare the wall clock with the last observation, and with the newest time in the ledger.

    A later time in the ledger counts only if it is newer than the observation: legs keep the time of a clock that was
    ahead, and an operator confirms that once.
    """
    expected_at, doubt = None, None
    if last is not None:
        is_same_start = now.boot_id != "" and now.boot_id == last.reading.boot_id and now.uptime >= last.reading.uptime
        passed = now.uptime - last.reading.uptime if is_same_start else 0
        expected_at = last.reading.wall_at + passed
        if abs(now.wall_at - expected_at) > LARGEST_JUMP_US:
            doubt = Doubt.JUMPED if is_same_start else Doubt.UNKNOWN_GAP
    is_news = last is None or ledger_at > last.ledger_at
    if doubt is None and is_news and ledger_at - now.wall_at > LARGEST_JUMP_US:
        expected_at, doubt = ledger_at, Doubt.BEHIND_LEDGER
    return ClockState(now, ledger_at, expected_at, doubt)
