"""Batches: transfers that were submitted together.

Revision: 0008, after 0007
"""

from alembic import op

revision = "0008"
down_revision = "0007"

STATEMENTS = (
    """
    CREATE TABLE batches (
        id INTEGER NOT NULL,
        public_id BLOB NOT NULL,
        mode TEXT NOT NULL,
        transfer_count INTEGER NOT NULL,
        refused TEXT NOT NULL,
        answer_version INTEGER NOT NULL,
        failed_index INTEGER,
        CONSTRAINT pk_batches PRIMARY KEY (id),
        CONSTRAINT ck_batches_mode CHECK (mode IN ('independent', 'atomic')),
        CONSTRAINT ck_batches_transfers CHECK (transfer_count BETWEEN 1 AND 5000),
        CONSTRAINT ck_batches_refused CHECK (json_type(refused) = 'array'),
        CONSTRAINT ck_batches_all CHECK (mode = 'independent' OR refused = '[]'),
        CONSTRAINT ck_batches_failed CHECK (
            failed_index IS NULL OR (mode = 'atomic' AND failed_index BETWEEN 0 AND transfer_count - 1)
        ),
        CONSTRAINT uq_batches_public_id UNIQUE (public_id)
    ) STRICT
    """,
    """CREATE TRIGGER batches_keep_terms BEFORE UPDATE OF id, public_id, mode, transfer_count, refused, answer_version
    ON batches
    BEGIN SELECT RAISE(ABORT, 'the terms of a batch never change'); END""",
    """CREATE TRIGGER batches_fail_once BEFORE UPDATE ON batches WHEN OLD.failed_index IS NOT NULL
    BEGIN SELECT RAISE(ABORT, 'a batch that has failed never changes'); END""",
    """CREATE TRIGGER batches_stay BEFORE DELETE ON batches
    BEGIN SELECT RAISE(ABORT, 'a batch is never deleted'); END""",
)


def upgrade() -> None:
    """Create the table."""
    for statement in STATEMENTS:
        op.execute(statement)
