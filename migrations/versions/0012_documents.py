"""Large documents, which a job makes.

Revision: 0012, after 0011
"""

from alembic import op

revision = "0012"
down_revision = "0011"

STATEMENTS = (
    """
    CREATE TABLE documents (
        id INTEGER NOT NULL,
        public_id BLOB NOT NULL,
        owner_id INTEGER NOT NULL,
        account_id INTEGER NOT NULL,
        period TEXT NOT NULL,
        number INTEGER,
        newest_id INTEGER NOT NULL,
        media_type TEXT NOT NULL,
        transaction_count INTEGER NOT NULL,
        file_name TEXT NOT NULL,
        month TEXT NOT NULL,
        asked_at INTEGER NOT NULL,
        made_at INTEGER,
        expires_at INTEGER NOT NULL,
        CONSTRAINT pk_documents PRIMARY KEY (id),
        CONSTRAINT ck_documents_month CHECK (json_valid(month)),
        CONSTRAINT ck_documents_transactions CHECK (transaction_count >= 1),
        CONSTRAINT uq_documents_public_id UNIQUE (public_id),
        CONSTRAINT fk_documents_owner_id FOREIGN KEY(owner_id) REFERENCES users (id),
        CONSTRAINT fk_documents_account_id FOREIGN KEY(account_id) REFERENCES accounts (id)
    ) STRICT
    """,
    "CREATE INDEX ix_documents_owner_id ON documents (owner_id, id)",
    "CREATE INDEX ix_documents_pending ON documents (owner_id, id) WHERE made_at IS NULL",
    "CREATE INDEX ix_documents_expires_at ON documents (expires_at)",
    """
    CREATE TRIGGER documents_keep_terms BEFORE UPDATE OF id, public_id, owner_id, account_id, period, number,
        newest_id, media_type, transaction_count, file_name, month, asked_at ON documents
    BEGIN SELECT RAISE(ABORT, 'the terms of a document never change'); END
    """,
    """
    CREATE TRIGGER documents_are_made_once BEFORE UPDATE ON documents WHEN OLD.made_at IS NOT NULL
    BEGIN SELECT RAISE(ABORT, 'a document is made once'); END
    """,
)


def upgrade() -> None:
    """Create the table, its indexes and its triggers."""
    for statement in STATEMENTS:
        op.execute(statement)
