"""The audit log: the acts of operators, with their limits and scopes.

Revision: 0002, after 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS = (
    """
    CREATE TABLE audit_entries (
        id INTEGER NOT NULL,
        at INTEGER NOT NULL,
        author_id INTEGER NOT NULL,
        action TEXT NOT NULL,
        object_id BLOB NOT NULL,
        details TEXT NOT NULL,
        request_id TEXT NOT NULL,
        address TEXT,
        CONSTRAINT pk_audit_entries PRIMARY KEY (id),
        CONSTRAINT fk_audit_entries_author_id FOREIGN KEY(author_id) REFERENCES users (id)
    ) STRICT
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
    """Create the table and its triggers."""
    for statement in STATEMENTS:
        op.execute(statement)
