"""Fixed times and ids, so that a history has the same blocks whenever it is played."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from unittest.mock import patch
from uuid import UUID

import core.ids
from core.clock import to_us


@dataclass(slots=True)
class Moment:
    """The time of the present step. It also makes ids: from that time, the number of the step, and a count in it."""

    now: datetime
    step: int = 0
    drawn: int = 0

    def begin_step(self, at: str) -> None:
        """Begin the next step, at a time in UTC."""
        self.now, self.step, self.drawn = _utc(at), self.step + 1, 0

    def time_ns(self) -> int:
        """Return nanoseconds since the epoch."""
        return to_us(self.now) * 1000

    def uuid7(self) -> UUID:
        """Make a UUIDv7 whose random bits are two numbers: those of the step, and of the id in the step."""
        self.drawn += 1
        milliseconds = to_us(self.now) // 1000
        return UUID(int=milliseconds << 80 | 0x7 << 76 | self.step << 64 | 0b10 << 62 | self.drawn)


@contextmanager
def moments_from(beginning: str) -> Iterator[Moment]:
    """Make everything in this process, migrations included, read the time and draw the ids of a history."""
    moment = Moment(_utc(beginning))
    with patch.object(time, "time_ns", moment.time_ns), patch.object(core.ids, "uuid_utils", moment):
        yield moment


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
