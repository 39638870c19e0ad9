"""How often one may ask, and how long one waits after failures. Pure: what is kept, and the time, are given.

All times are microseconds since the epoch.
"""

import re
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple, Self

SECOND_US = 1_000_000

_RATE = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,4})")


class Decision(NamedTuple):
    """What a throttle says to one request."""

    wait_us: int
    """0: go ahead. Else the time until it is worth asking again."""
    left: int
    """Requests that would be let through after this one, at once."""
    more_us: int
    """Time until one more than these would be."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in so many seconds: all of them at once, if need be, and then as fast as they come free again.

    A bucket of tokens, kept as one number: when it will be full (the generic cell rate algorithm, ITU-T I.371).
    """

    requests: int
    seconds: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read `requests/seconds`, or `off` (None); raises ValueError for anything else."""
        if text == "off":
            return None
        found = _RATE.fullmatch(text)
        if found is None:
            raise ValueError("is neither off nor requests/seconds, like 1000/10")
        return cls(int(found[1]), int(found[2]))

    def share(self, among: int) -> "Rate":
        """Divide it among processes that do not know of each other; none gets less than one request."""
        return Rate(-(-self.requests // among), self.seconds)

    def take(self, full_at: float, now: int) -> tuple[Decision, float]:
        """Take one request out of a bucket that is full at `full_at` (0: a new one). Returns when it is full then."""
        window = self.seconds * SECOND_US
        each = window / self.requests
        # A clock that was ahead may have left any time, but no bucket is emptier than empty.
        full_at = min(max(full_at, now), now + window)
        room = now + window - full_at
        if room < each:
            return Decision(ceil(each - room), 0, ceil(each - room)), full_at
        left = int(room / each) - 1
        return Decision(0, left, ceil((left + 2) * each - room)), full_at + each


class Record(NamedTuple):
    """What is remembered of failures: nothing more than two times."""

    gone_at: int = 0
    """When the last of them is forgotten."""
    tried_at: int = 0
    """When the newest came, which decides how long the next one has to wait; 0: it need not."""


@dataclass(frozen=True, slots=True)
class Patience:
    """So many failures at once; then each further try waits, twice as long as the one before, up to a bound.

    A failure is forgotten after `forget_us`, one after the other. So nobody is locked out for good: once the delay is
    over, the next try counts like any other.
    """

    free: int
    forget_us: int
    first_us: int
    longest_us: int

    @property
    def most(self) -> int:
        """Failures beyond which none is counted: the delay does not grow any more."""
        doublings = ((self.longest_us - 1) // self.first_us).bit_length()
        return self.free + doublings

    def delay_us(self, failures: int) -> int:
        """Say how long one waits after so many failures."""
        if failures < self.free:
            return 0
        return min(self.first_us << min(failures - self.free, self.most), self.longest_us)

    def failures(self, record: Record, at: int) -> int:
        """Count the failures that are not forgotten yet; one that is half forgotten counts as one."""
        return min(self.most, max(0, -(-(record.gone_at - at) // self.forget_us)))

    def look(self, record: Record, now: int) -> Decision:
        """Say whether a try may be made now."""
        failures = self.failures(record, now)
        left = max(0, self.free - failures)
        # A delay that begins in the future was left by a clock that was ahead.
        began = record.tried_at if 0 < record.tried_at <= now else None
        delay = 0 if began is None else began + self.delay_us(self.failures(record, began)) - now
        if delay > 0:
            return Decision(delay, 0, delay)
        over = record.gone_at - now - (failures - 1) * self.forget_us
        return Decision(0, left, min(over, self.forget_us) if failures else 0)

    def count(self, record: Record, now: int) -> Record:
        """Count a try that is made, as if it failed."""
        gone_at = max(record.gone_at, now) + self.forget_us
        return Record(min(gone_at, now + self.most * self.forget_us), now)

    def forgive(self, record: Record, tried_at: int) -> Record:
        """Take back a try that did not fail, and its delay; not the delay of another that came since."""
        return Record(record.gone_at - self.forget_us, 0 if record.tried_at == tried_at else record.tried_at)
