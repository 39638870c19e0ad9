"""The lanes: the numbers and times with which accepting and settling go on."""

from typing import NamedTuple

from sqlalchemy import Connection

from core.storage.sql import Statement


class Lanes(NamedTuple):
    """Where both lanes stand. Times are microseconds since the epoch, and 0 before the first row."""

    next_transfer: int
    """The sequence of the next transfer."""
    accepted_at: int
    """When the newest transfer was accepted."""
    next_leg: int
    """The row id of the next leg."""
    posted_at: int
    """When the newest leg was posted."""
    watermark: int
    """Every transfer up to this sequence has ended."""

    @property
    def newest_at(self) -> int:
        """The time of the newest row of both lanes."""
        return max(self.accepted_at, self.posted_at)


_READ = Statement(
    "SELECT accept.next_id, accept.newest_at, settle.next_id, settle.newest_at, settle.watermark "
    "FROM lanes accept CROSS JOIN lanes settle WHERE accept.name = 'accept' AND settle.name = 'settle'"
)
_ACCEPTED = Statement("UPDATE lanes SET next_id = :next, newest_at = :newest_at WHERE name = 'accept'")
_SETTLED = Statement(
    "UPDATE lanes SET next_id = :next, newest_at = :newest_at, watermark = :watermark WHERE name = 'settle'"
)
_FIRST_PENDING = Statement(
    "SELECT t.id FROM transfers t LEFT JOIN endings e ON e.id = t.id WHERE t.id > :after AND e.id IS NULL "
    "ORDER BY t.id LIMIT 1"
)


def read(connection: Connection) -> Lanes:
    """Read where both lanes stand."""
    return Lanes(*_READ.run(connection).one())


def accepted(connection: Connection, *, next_transfer: int, accepted_at: int) -> None:
    """Write where accepting stands."""
    _ACCEPTED.run(connection, next=next_transfer, newest_at=accepted_at)


def settled(connection: Connection, before: Lanes, *, next_leg: int, posted_at: int, through: int) -> None:
    """Write where settling stands, once every transfer up to `through` has ended."""
    front = before.next_transfer - 1
    if through < front and (pending := first_pending(connection, after=through)) is not None:
        front = pending - 1
    _SETTLED.run(connection, next=next_leg, newest_at=posted_at, watermark=front)


def first_pending(connection: Connection, *, after: int) -> int | None:
    """Find the first pending transfer after a sequence. Reads each ended one before it."""
    sequence: int | None = _FIRST_PENDING.run(connection, after=after).scalar()
    return sequence
