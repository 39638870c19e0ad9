"""The audit log accepts entries without a known author or an object, and can be searched.

Revision: 0004, after 0003

SQLite cannot drop a NOT NULL, so the table is created again, with every row unchanged.
"""

from alembic import op

revision = "0004"
down_revision = "0003"

STATEMENTS = (
    """
    CREATE TABLE new_audit_entries (
        id INTEGER NOT NULL,
        at INTEGER NOT NULL,
        author_id INTEGER,
        action TEXT NOT NULL,
        object_id BLOB,
        details TEXT NOT NULL,
        request_id TEXT NOT NULL,
        address TEXT,
        CONSTRAINT pk_audit_entries PRIMARY KEY (id),
        CONSTRAINT ck_audit_entries_author CHECK (author_id IS NOT NULL OR action IN
            ('log_in_failed', 'refresh_token_reused', 'access_refused')),
        CONSTRAINT fk_audit_entries_author_id FOREIGN KEY(author_id) REFERENCES users (id)
    ) STRICT
    """,
    """
    INSERT INTO new_audit_entries (id, at, author_id, action, object_id, details, request_id, address)
    SELECT id, at, author_id, action, object_id, details, request_id, address FROM audit_entries ORDER BY id
    """,
    """
    DROP TABLE audit_entries
    """,
    """
    ALTER TABLE new_audit_entries RENAME TO audit_entries
    """,
    """
    CREATE INDEX ix_audit_entries_action ON audit_entries (action)
    """,
    """
    CREATE INDEX ix_audit_entries_author_id ON audit_entries (author_id) WHERE author_id IS NOT NULL
    """,
    """
    CREATE INDEX ix_audit_entries_object_id ON audit_entries (object_id) WHERE object_id IS NOT NULL
    """,
    """
    CREATE INDEX ix_audit_entries_at ON audit_entries (at)
    """,
    """
    CREATE TRIGGER audit_entries_never_change BEFORE UPDATE ON audit_entries
    BEGIN SELECT RAISE(ABORT, 'what was written down never changes'); END
    """,
    """
    CREATE TRIGGER audit_entries_stay BEFORE DELETE ON audit_entries
    BEGIN SELECT RAISE(ABORT, 'what was written down stays'); END
    """,
)


def upgrade() -> None:
    """Create the table again, with its rows, indexes and triggers."""
    for statement in STATEMENTS:
        op.execute(statement)
