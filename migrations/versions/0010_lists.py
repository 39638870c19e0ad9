"""Lists: indexes of transfers that moved nothing, and waypoints into the chains that lists walk.

SQLite fills each index in one pass over its table, sorted within the cache of the connection.

Revision: 0010, after 0009
"""

from alembic import op

revision = "0010"
down_revision = "0009"

STATEMENTS = (
    """
    CREATE INDEX ix_transfers_unexecuted ON transfers (status, id)
    WHERE failure_code IS NOT NULL OR status = 'cancelled'
    """,
    """
    CREATE INDEX ix_transfers_unexecuted_by_payer ON transfers (from_account_id, status, id)
    WHERE failure_code IS NOT NULL OR status = 'cancelled'
    """,
    """
    CREATE INDEX ix_transfers_waypoints ON transfers (from_account_id, id)
    WHERE settled_at IS NULL AND ((created_at + id) & 65535) * 40503 & 65535 < 1024
    """,
    """
    CREATE INDEX ix_transactions_waypoints ON transactions (account_id, transfer_id)
    WHERE ((posted_at + transfer_id) & 65535) * 40503 & 65535 < 1024
    """,
)


def upgrade() -> None:
    """Create the indexes."""
    for statement in STATEMENTS:
        op.execute(statement)
