"""Rate limits, and delays after failures. Pure functions: the caller passes the stored state and the time.

All times are microseconds since the epoch.
"""

import re
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple, Self

SECOND_US = 1_000_000

ROUNDING_US = 1
"""Present times are around 2^51 µs, of which a float keeps quarters."""

_RATE = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,4})")


class Decision(NamedTuple):
    """A throttle's decision about one request."""

    wait_us: int
    """0 if the request is allowed. Otherwise the time until a retry can succeed."""
    left: int
    """Number of further requests that would be allowed immediately after this one, or instead of it if it has to wait.
    """
    more_us: int
    """Time until one request more than `left` would be allowed."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A number of requests in a number of seconds. They may come all at once; then the allowance refills steadily.

    It is a token bucket, stored as one number: the time at which the bucket will be full (the generic cell rate
    algorithm, ITU-T I.371).
    """

    requests: int
    seconds: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read `requests/seconds`, or `off` (returns None). Raises ValueError for anything else."""
        if text == "off":
            return None
        found = _RATE.fullmatch(text)
        if found is None:
            raise ValueError("must be off or requests/seconds, like 1000/10")
        return cls(int(found[1]), int(found[2]))

    def share(self, among: int) -> "Rate":
        """Divide the rate among processes that count separately. Each gets at least one request."""
        return Rate(-(-self.requests // among), self.seconds)

    def take(self, full_at: float, now: int, count: int = 1) -> tuple[Decision, float]:
        """Take `count` requests, all or none, out of a bucket that will be full at `full_at` (0 for a new bucket).

        More than a full bucket holds need a full bucket, and leave it empty. Returns the decision, and when the bucket
        will be full after it.
        """
        each, full_at, room = self._room(full_at, now)
        wanted = self.seconds * SECOND_US * min(count, self.requests) / self.requests
        if room < wanted:
            left = int(room / each)
            return Decision(ceil(wanted - room), left, ceil((left + 1) * each - room)), full_at
        left = max(0, int((room - wanted) / each))
        return Decision(0, left, ceil((left + 1) * each - (room - wanted))), full_at + wanted

    def take_more(self, full_at: float, now: int, count: int) -> tuple[Decision, float]:
        """Take `count` requests more for one that was taken a moment ago, because it counts as several.

        They can be more than the bucket holds. Then they need a full bucket, and leave an empty one. Returns what
        `take` returns. A retry takes the one request again, so the wait after a refusal is long enough for that too.
        """
        each, full_at, room = self._room(full_at, now)
        count = min(count, self.requests - 1)
        if room < count * each - ROUNDING_US:
            left = int(room / each)
            return Decision(ceil((count + 1) * each - room), left, ceil((left + 1) * each - room)), full_at
        left = max(0, int(room / each) - count)
        return Decision(0, left, ceil((left + count + 1) * each - room)), full_at + count * each

    def _room(self, full_at: float, now: int) -> tuple[float, float, float]:
        """Return the time that one request takes, when the bucket will be full, and the time that is left in it."""
        window = self.seconds * SECOND_US
        # A clock that was ahead may have stored any time, but a bucket cannot be emptier than empty.
        full_at = min(max(full_at, now), now + window)
        return window / self.requests, full_at, now + window - full_at


class Record(NamedTuple):
    """The stored state of failures: only two times."""

    gone_at: int = 0
    """When the last failure is forgotten."""
    tried_at: int = 0
    """Time of the newest try, from which the delay of the next one is counted. 0: the next try need not wait."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Some failures are free. Then each further try has to wait twice as long as the one before, up to a bound.

    Failures are forgotten one after the other, each after `forget_us`. So no user is locked out permanently: once the
    delay is over, the next try is allowed like any other.
    """

    free: int
    forget_us: int
    first_us: int
    longest_us: int

    @property
    def most(self) -> int:
        """The largest number of failures that is counted. The delay does not grow beyond it."""
        doublings = ((self.longest_us - 1) // self.first_us).bit_length()
        return self.free + doublings

    def delay_us(self, failures: int) -> int:
        """Return the delay after a number of failures, in microseconds."""
        if failures < self.free:
            return 0
        return min(self.first_us << min(failures - self.free, self.most), self.longest_us)

    def failures(self, record: Record, at: int) -> int:
        """Count the failures that are not forgotten yet. A partly forgotten failure counts as one."""
        return min(self.most, max(0, -(-(record.gone_at - at) // self.forget_us)))

    def look(self, record: Record, now: int) -> Decision:
        """Return whether a try is allowed now."""
        failures = self.failures(record, now)
        left = max(0, self.free - failures)
        # A delay that begins in the future was stored by a clock that was ahead.
        began = record.tried_at if 0 < record.tried_at <= now else None
        delay = 0 if began is None else began + self.delay_us(self.failures(record, began)) - now
        if delay > 0:
            return Decision(delay, 0, delay)
        over = record.gone_at - now - (failures - 1) * self.forget_us
        return Decision(0, left, min(over, self.forget_us) if failures else 0)

    def count(self, record: Record, now: int, tries: int = 1) -> Record:
        """Count tries as failures, before their outcome is known."""
        gone_at = max(record.gone_at, now) + tries * self.forget_us
        return Record(min(gone_at, now + self.most * self.forget_us), now)

    def forgive(self, record: Record, tried_at: int) -> Record:
        """Take back a try that succeeded, and its delay. The delay of a newer try stays."""
        return Record(record.gone_at - self.forget_us, 0 if record.tried_at == tried_at else record.tried_at)
