"""Cards: sealed numbers, their blind index, and the parts that are shown.

Revision: 0003, after 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"

STATEMENTS = (
    """
    CREATE TABLE cards (
        id INTEGER NOT NULL,
        public_id BLOB NOT NULL,
        owner_id INTEGER NOT NULL,
        account_id INTEGER NOT NULL,
        type TEXT NOT NULL,
        status TEXT NOT NULL,
        last4 TEXT NOT NULL,
        expiry TEXT NOT NULL,
        sealed_number BLOB NOT NULL,
        key_version INTEGER NOT NULL,
        number_index BLOB NOT NULL,
        created_at INTEGER NOT NULL,
        cancelled_at INTEGER,
        CONSTRAINT pk_cards PRIMARY KEY (id),
        CONSTRAINT ck_cards_type CHECK (type IN ('debit', 'credit')),
        CONSTRAINT ck_cards_status CHECK (status IN ('active', 'frozen', 'cancelled')),
        CONSTRAINT ck_cards_last4 CHECK (last4 GLOB '[0-9][0-9][0-9][0-9]'),
        CONSTRAINT ck_cards_expiry CHECK (expiry GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]'),
        CONSTRAINT ck_cards_sealed_number CHECK (length(sealed_number) = 44),
        CONSTRAINT ck_cards_number_index CHECK (length(number_index) = 32),
        CONSTRAINT ck_cards_key_version CHECK (key_version >= 1),
        CONSTRAINT ck_cards_cancelled CHECK ((status = 'cancelled') = (cancelled_at IS NOT NULL)),
        CONSTRAINT uq_cards_public_id UNIQUE (public_id),
        CONSTRAINT fk_cards_owner_id FOREIGN KEY(owner_id) REFERENCES users (id),
        CONSTRAINT fk_cards_account_id FOREIGN KEY(account_id) REFERENCES accounts (id),
        CONSTRAINT uq_cards_number_index UNIQUE (number_index)
    ) STRICT
    """,
    """
    CREATE INDEX ix_cards_owner_id_id ON cards (owner_id, id)
    """,
    """
    CREATE INDEX ix_cards_key_version ON cards (key_version)
    """,
    """
    CREATE INDEX ix_cards_live ON cards (account_id) WHERE status <> 'cancelled'
    """,
    """
    CREATE TRIGGER cards_end_once BEFORE UPDATE OF status, cancelled_at ON cards WHEN OLD.status = 'cancelled'
    BEGIN SELECT RAISE(ABORT, 'a cancelled card stays cancelled'); END
    """,
    """
    CREATE TRIGGER cards_keep_terms BEFORE UPDATE OF id, public_id, owner_id, account_id, type, last4, expiry,
        number_index, created_at ON cards
    BEGIN SELECT RAISE(ABORT, 'the terms of a card never change'); END
    """,
    """
    CREATE TRIGGER cards_are_sealed_forward BEFORE UPDATE OF sealed_number, key_version ON cards
        WHEN NEW.key_version <= OLD.key_version
    BEGIN SELECT RAISE(ABORT, 'a card is sealed anew under a newer key only'); END
    """,
    """
    CREATE TRIGGER cards_stay BEFORE DELETE ON cards
    BEGIN SELECT RAISE(ABORT, 'a card is never deleted'); END
    """,
)


def upgrade() -> None:
    """Create the table, its indexes and its triggers."""
    for statement in STATEMENTS:
        op.execute(statement)
