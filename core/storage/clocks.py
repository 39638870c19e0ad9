"""The last trusted observation of the clocks in the database, and the newest time of the ledger."""

from sqlalchemy import Connection

from core.domain.clocks import Observation, Reading
from core.storage import accounts, lanes, statement_runs
from core.storage.sql import Statement

_LAST = Statement("SELECT wall_at, uptime, boot_id, ledger_at FROM clocks WHERE id = 1")
_KEEP = Statement(
    "INSERT INTO clocks (id, wall_at, uptime, boot_id, ledger_at) "
    "VALUES (1, :wall_at, :uptime, :boot_id, :ledger_at) ON CONFLICT (id) "
    "DO UPDATE SET (wall_at, uptime, boot_id, ledger_at) "
    "= (excluded.wall_at, excluded.uptime, excluded.boot_id, excluded.ledger_at)"
)


def last(connection: Connection) -> Observation | None:
    """Read the last trusted observation; None before the first."""
    row = _LAST.run(connection).first()
    return Observation(Reading(row[0], row[1], row[2]), row[3]) if row else None


def keep(connection: Connection, trusted: Observation) -> None:
    """Store an observation in place of the last one."""
    wall_at, uptime, boot_id = trusted.reading
    _KEEP.run(connection, wall_at=wall_at, uptime=uptime, boot_id=boot_id, ledger_at=trusted.ledger_at)


def ledger_at(connection: Connection) -> int:
    """Return the newest time in the ledger: of a leg, a transfer, an account or a closed month (0: none)."""
    written, closed = lanes.read(connection).newest_at, statement_runs.closed_until(connection)
    return max(written, closed, accounts.last_opened_at(connection))
