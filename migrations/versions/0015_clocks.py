"""The last trusted observation of the clocks.

Revision: 0015, after 0014
"""

from alembic import op

revision = "0015"
down_revision = "0014"

STATEMENTS = (
    """
    CREATE TABLE clocks (
        id INTEGER NOT NULL,
        wall_at INTEGER NOT NULL,
        uptime INTEGER NOT NULL,
        boot_id TEXT NOT NULL,
        ledger_at INTEGER NOT NULL,
        CONSTRAINT pk_clocks PRIMARY KEY (id),
        CONSTRAINT ck_clocks_id CHECK (id = 1),
        CONSTRAINT ck_clocks_uptime CHECK (uptime >= 0)
    ) STRICT
    """,
)


def upgrade() -> None:
    """Create the table."""
    for statement in STATEMENTS:
        op.execute(statement)
