"""The room that the pending transfers of one user leave for more, so that nobody waits long behind one user.

A transfer counts for the owner of the account that pays it, even if an operator submits it. A deposit counts for no
user.
"""

from collections.abc import Collection

from sqlalchemy import Connection

from core.clock import now_us
from core.domain.errors import RateLimited, Unavailable
from core.domain.pending import FEW, PendingBounds, too_long, too_many
from core.storage import pending
from core.storage.pending import Front


class Room:
    """How many more transfers each user may submit one by one, in a unit of work that accepts a group of them."""

    def __init__(
        self, connection: Connection, bounds: PendingBounds, front: Front, *, owners: Collection[int], count: int
    ) -> None:
        """`count` requests are decided, the first accepted one stands at `front`, and `owners` are those of the payers.

        If all pending transfers together leave room for the group, those of single users need not be counted.
        """
        self._left: dict[int, int] = {}
        self._limits: dict[int, int] = {}
        self._counts = front.backlog + count > min(bounds.per_user, front.lowest_limit or bounds.per_user)
        if self._counts:
            for owner, (held, limit) in pending.of_users(connection, owners).items():
                self._limits[owner] = limit or bounds.per_user
                self._left[owner] = self._limits[owner] - held
            self._waited_us = _waited_us(connection)

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
    if pending.front(connection).backlog >= bounds.total:
        raise Unavailable("Too many transfers are waiting to be settled; nothing was recorded.")
    held, limit = pending.of_users(connection, [user_id]).get(user_id, (0, None))
    most = limit or bounds.per_user
    if held + lines > most:
        raise too_many(held, most, waited_us=_waited_us(connection))
    if bounds.seconds and held >= FEW and (waited_us := _waited_us(connection)) > bounds.seconds * 1e6:
        raise too_long(held, waited_us=waited_us)


def _waited_us(connection: Connection) -> int:
    """Return how long the oldest pending transfer has waited, in microseconds; 0 if none is pending."""
    accepted_at = pending.oldest_accepted_at(connection)
    return 0 if accepted_at is None else max(0, now_us() - accepted_at)
