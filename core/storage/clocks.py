"""The last trusted observation of the clocks in the database, and the newest time of the ledger."""

from sqlalchemy import Connection

from core.domain.clocks import Observation, Reading
from core.storage import accounts, statement_runs, transactions, transfers


def last(connection: Connection) -> Observation | None:
    """Read the last trusted observation; None before the first."""
    row = connection.exec_driver_sql("SELECT wall_at, uptime, boot_id, ledger_at FROM clocks WHERE id = 1").first()
    return Observation(Reading(row[0], row[1], row[2]), row[3]) if row else None


def keep(connection: Connection, trusted: Observation) -> None:
    """Store an observation in place of the last one."""
    connection.exec_driver_sql(
        "INSERT INTO clocks (id, wall_at, uptime, boot_id, ledger_at) VALUES (1, ?, ?, ?, ?) ON CONFLICT (id) "
        "DO UPDATE SET (wall_at, uptime, boot_id, ledger_at) "
        "= (excluded.wall_at, excluded.uptime, excluded.boot_id, excluded.ledger_at)",
        (*trusted.reading, trusted.ledger_at),
    )


def ledger_at(connection: Connection) -> int:
    """Return the newest time in the ledger: of a leg, a transfer, an account or a closed month; 0 if it is empty."""
    _, accepted_at = transfers.next_sequence(connection)
    last_leg, closed = transactions.last_posted_at(connection), statement_runs.closed_until(connection)
    return max(last_leg, accepted_at, closed, accounts.last_opened_at(connection))
