"""The room that the pending transfers of one user leave for more, so that nobody waits long behind one user.

A transfer counts for the owner of the account that pays it, whoever submits it. A deposit counts for no user.
"""

from collections.abc import Collection

from sqlalchemy import Connection

from core.clock import now_us
from core.domain.errors import RateLimited, Unavailable
from core.domain.pending import FEW, PendingBounds, too_long, too_many
from core.storage import pending, transfers


class Room:
    """How many more transfers each user may submit one by one, in a unit of work that accepts a group of them."""

    def __init__(
        self, connection: Connection, bounds: PendingBounds, *, owners: Collection[int], count: int, sequence: int
    ) -> None:
        """`count` requests are decided, the first accepted one gets `sequence`, and `owners` are those of the payers.

        If all pending transfers together leave room for the group, those of single users need not be counted.
        """
        self._left: dict[int, int] = {}
        self._limits: dict[int, int] = {}
        oldest, lowest = pending.oldest_and_lowest_limit(connection)
        backlog = 0 if oldest is None else sequence - oldest
        self._counts = backlog + count > min(bounds.per_user, lowest or bounds.per_user)
        if self._counts:
            for owner, (held, limit) in pending.of_users(connection, owners).items():
                self._limits[owner] = limit or bounds.per_user
                self._left[owner] = self._limits[owner] - held
            self._waited_us = _waited_us(pending.oldest(connection))

    def take(self, owner: int) -> RateLimited | None:
        """Take the room for one transfer that `owner` pays, or return the refusal."""
        if not self._counts:
            return None
        left, most = self._left[owner], self._limits[owner]
        if left <= 0:
            return too_many(most - left, most, waited_us=self._waited_us)
        self._left[owner] = left - 1
        return None


def require_room(connection: Connection, bounds: PendingBounds, *, user_id: int, lines: int) -> None:
    """Refuse a batch for which there is no room. It is refused as a whole, so that its key stays free for a retry.

    Raises RateLimited (`too_many_pending`) if the user would have too many pending transfers, or has some and the
    oldest of all has waited too long. Raises Unavailable if too many of all users are pending.
    """
    oldest = pending.oldest(connection)
    backlog = 0 if oldest is None else transfers.next_sequence(connection)[0] - oldest[0]
    if backlog >= bounds.total:
        raise Unavailable("Too many transfers are waiting to be settled; nothing was recorded.")
    held, limit = pending.of_users(connection, [user_id]).get(user_id, (0, None))
    most, waited_us = limit or bounds.per_user, _waited_us(oldest)
    if held + lines > most:
        raise too_many(held, most, waited_us=waited_us)
    if bounds.seconds and held >= FEW and waited_us > bounds.seconds * 1e6:
        raise too_long(held, waited_us=waited_us)


def _waited_us(oldest: tuple[int, int] | None) -> int:
    """Return how long the oldest pending transfer has waited, in microseconds."""
    return 0 if oldest is None else max(0, now_us() - oldest[1])
