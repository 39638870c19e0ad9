"""Scars: blocks that two operators write after a breach.

Revision: 0013, after 0012

SQLite cannot change a CHECK, so the table of blocks is created again, with every row unchanged. After a scar, a
transfer can have a second block that cancels it, so that index is no longer unique.
"""

from alembic import op

revision = "0013"
down_revision = "0012"

STATEMENTS = (
    """
    CREATE TABLE new_blocks (
        height INTEGER NOT NULL,
        kind TEXT NOT NULL,
        first_leg_id INTEGER NOT NULL,
        leg_count INTEGER NOT NULL,
        first_sequence INTEGER NOT NULL,
        last_sequence INTEGER NOT NULL,
        ending_count INTEGER NOT NULL,
        made_at INTEGER NOT NULL,
        hash BLOB NOT NULL,
        CONSTRAINT pk_blocks PRIMARY KEY (height),
        CONSTRAINT ck_blocks_kind CHECK (kind IN ('genesis', 'settlement', 'cancellation', 'scar')),
        CONSTRAINT ck_blocks_genesis CHECK ((kind = 'genesis') = (height = 0)),
        CONSTRAINT ck_blocks_one CHECK (kind <> 'cancellation' OR (first_sequence = last_sequence AND leg_count = 0)),
        CONSTRAINT ck_blocks_counts CHECK (leg_count >= 0 AND ending_count >= 0),
        CONSTRAINT ck_blocks_hash CHECK (length(hash) = 32)
    ) STRICT
    """,
    """
    INSERT INTO new_blocks SELECT height, kind, first_leg_id, leg_count, first_sequence, last_sequence, ending_count,
        made_at, hash FROM blocks ORDER BY height
    """,
    "DROP TABLE blocks",
    "ALTER TABLE new_blocks RENAME TO blocks",
    "CREATE INDEX ix_blocks_cancelled ON blocks (first_sequence) WHERE kind = 'cancellation'",
    """CREATE TRIGGER blocks_never_change BEFORE UPDATE ON blocks
    BEGIN SELECT RAISE(ABORT, 'a block never changes'); END""",
    """CREATE TRIGGER blocks_stay BEFORE DELETE ON blocks
    BEGIN SELECT RAISE(ABORT, 'a block is never deleted'); END""",
    """
    CREATE TABLE scars (
        id INTEGER NOT NULL,
        first_height INTEGER NOT NULL,
        last_height INTEGER NOT NULL,
        content BLOB NOT NULL,
        reason TEXT NOT NULL,
        proposed_by INTEGER NOT NULL,
        proposed_at INTEGER NOT NULL,
        confirmed_by INTEGER,
        confirmed_at INTEGER,
        public_key BLOB,
        signature BLOB,
        CONSTRAINT pk_scars PRIMARY KEY (id),
        CONSTRAINT ck_scars_heights CHECK (first_height BETWEEN 0 AND last_height + 1),
        CONSTRAINT ck_scars_content CHECK (length(content) = 32),
        CONSTRAINT ck_scars_operators CHECK (confirmed_by <> proposed_by),
        CONSTRAINT ck_scars_confirmed CHECK (
            (confirmed_by IS NULL) = (confirmed_at IS NULL) AND (confirmed_by IS NULL) = (public_key IS NULL)
            AND (confirmed_by IS NULL) = (signature IS NULL)),
        CONSTRAINT fk_scars_proposed_by FOREIGN KEY(proposed_by) REFERENCES users (id),
        CONSTRAINT fk_scars_confirmed_by FOREIGN KEY(confirmed_by) REFERENCES users (id)
    ) STRICT
    """,
    """CREATE TRIGGER scars_keep_terms BEFORE UPDATE OF id, first_height, last_height, content, reason, proposed_by,
        proposed_at ON scars
    BEGIN SELECT RAISE(ABORT, 'the terms of a scar never change'); END""",
    """CREATE TRIGGER scars_are_confirmed_once BEFORE UPDATE ON scars WHEN OLD.confirmed_at IS NOT NULL
    BEGIN SELECT RAISE(ABORT, 'a scar is confirmed once'); END""",
    """CREATE TRIGGER scars_stay BEFORE DELETE ON scars
    BEGIN SELECT RAISE(ABORT, 'a scar stays for ever'); END""",
)


def upgrade() -> None:
    """Create the table of blocks again, and that of scars."""
    for statement in STATEMENTS:
        op.execute(statement)
