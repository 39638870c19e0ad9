"""Isolations: accounts that are set apart after a breach.

Revision: 0014, after 0013
"""

from alembic import op

revision = "0014"
down_revision = "0013"

STATEMENTS = (
    """
    CREATE TABLE isolations (
        id INTEGER NOT NULL,
        begun_at INTEGER NOT NULL,
        begun_by INTEGER NOT NULL,
        reason TEXT NOT NULL,
        accounts TEXT NOT NULL,
        transfers TEXT NOT NULL,
        known TEXT NOT NULL,
        sums TEXT NOT NULL,
        ended_at INTEGER,
        CONSTRAINT pk_isolations PRIMARY KEY (id),
        CONSTRAINT ck_isolations_objects CHECK (json_type(accounts) = 'object' AND json_type(sums) = 'object'),
        CONSTRAINT ck_isolations_arrays CHECK (json_type(transfers) = 'array' AND json_type(known) = 'array'),
        CONSTRAINT fk_isolations_begun_by FOREIGN KEY(begun_by) REFERENCES users (id)
    ) STRICT
    """,
    "CREATE INDEX ix_isolations_begun ON isolations (id) WHERE ended_at IS NULL",
    """CREATE TRIGGER isolations_end_once BEFORE UPDATE ON isolations WHEN OLD.ended_at IS NOT NULL
    BEGIN SELECT RAISE(ABORT, 'an isolation ends once'); END""",
    """CREATE TRIGGER isolations_stay BEFORE DELETE ON isolations
    BEGIN SELECT RAISE(ABORT, 'an isolation is never deleted'); END""",
)


def upgrade() -> None:
    """Create the table and its triggers."""
    for statement in STATEMENTS:
        op.execute(statement)
