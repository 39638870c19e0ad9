"""Erasure: users without personal data, and cards without a number.

SQLite cannot drop a NOT NULL, so the cards are copied into a new table.

Revision: 0009, after 0008
"""

from alembic import op

revision = "0009"
down_revision = "0008"

STATEMENTS = (
    """
    ALTER TABLE users ADD COLUMN erased_at INTEGER CONSTRAINT ck_users_erased CHECK (
        erased_at IS NULL OR (email = lower(hex(public_id)) || '@erased.invalid' AND name IS NULL
        AND password_hash = '!' AND is_active = 0)
    )
    """,
    """
    CREATE TRIGGER users_stay_erased BEFORE UPDATE ON users WHEN OLD.erased_at IS NOT NULL
    BEGIN SELECT RAISE(ABORT, 'an erased user never changes'); END
    """,
    """
    CREATE TABLE new_cards (
        id INTEGER NOT NULL,
        public_id BLOB NOT NULL,
        owner_id INTEGER NOT NULL,
        account_id INTEGER NOT NULL,
        type TEXT NOT NULL,
        status TEXT NOT NULL,
        last4 TEXT NOT NULL,
        expiry TEXT NOT NULL,
        sealed_number BLOB,
        key_version INTEGER,
        number_index BLOB,
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
        CONSTRAINT ck_cards_number CHECK (
            (sealed_number IS NULL) = (key_version IS NULL) AND (sealed_number IS NULL) = (number_index IS NULL)
            AND (sealed_number IS NOT NULL OR status = 'cancelled')
        ),
        CONSTRAINT uq_cards_public_id UNIQUE (public_id),
        CONSTRAINT fk_cards_owner_id FOREIGN KEY(owner_id) REFERENCES users (id),
        CONSTRAINT fk_cards_account_id FOREIGN KEY(account_id) REFERENCES accounts (id),
        CONSTRAINT uq_cards_number_index UNIQUE (number_index)
    ) STRICT
    """,
    """
    INSERT INTO new_cards SELECT
        id, public_id, owner_id, account_id, type, status, last4, expiry, sealed_number, key_version, number_index,
        created_at, cancelled_at
    FROM cards ORDER BY id
    """,
    "DROP TABLE cards",
    "ALTER TABLE new_cards RENAME TO cards",
    "CREATE INDEX ix_cards_owner_id_id ON cards (owner_id, id)",
    "CREATE INDEX ix_cards_key_version ON cards (key_version)",
    "CREATE INDEX ix_cards_live ON cards (account_id) WHERE status <> 'cancelled'",
    """
    CREATE TRIGGER cards_end_once BEFORE UPDATE OF status, cancelled_at ON cards WHEN OLD.status = 'cancelled'
    BEGIN SELECT RAISE(ABORT, 'a cancelled card stays cancelled'); END
    """,
    """
    CREATE TRIGGER cards_keep_terms BEFORE UPDATE OF id, public_id, owner_id, account_id, type, last4, expiry,
        created_at ON cards
    BEGIN SELECT RAISE(ABORT, 'the terms of a card never change'); END
    """,
    """
    CREATE TRIGGER cards_keep_their_number BEFORE UPDATE OF number_index ON cards
        WHEN NEW.number_index IS NOT NULL AND NEW.number_index IS NOT OLD.number_index
    BEGIN SELECT RAISE(ABORT, 'a card keeps its number, or loses it for good'); END
    """,
    """
    CREATE TRIGGER cards_are_sealed_forward BEFORE UPDATE OF sealed_number, key_version ON cards
        WHEN NEW.key_version <= OLD.key_version OR (OLD.key_version IS NULL AND NEW.key_version IS NOT NULL)
    BEGIN SELECT RAISE(ABORT, 'a card is sealed anew under a newer key only'); END
    """,
    """
    CREATE TRIGGER cards_stay BEFORE DELETE ON cards
    BEGIN SELECT RAISE(ABORT, 'a card is never deleted'); END
    """,
)


def upgrade() -> None:
    """Add the column and its trigger, and copy the cards into a table in which the number can be NULL."""
    for statement in STATEMENTS:
        op.execute(statement)
