"""New tables for transfers that never change, their endings, reservations and lanes.

Revision: 0016, after 0015

Revision 0017 fills these tables with many commits. Once this revision is committed, earlier versions of Giro neither
start nor write, so no row changes meanwhile.
"""

from alembic import op

revision = "0016"
down_revision = "0015"

STATEMENTS = (
    """
    CREATE TABLE endings (
        id INTEGER NOT NULL,
        status TEXT NOT NULL,
        ended_at INTEGER NOT NULL,
        failure_code TEXT,
        payer_id INTEGER,
        CONSTRAINT pk_endings PRIMARY KEY (id),
        CONSTRAINT ck_endings_status CHECK (status IN ('completed', 'failed', 'cancelled')),
        CONSTRAINT ck_endings_failure CHECK ((status = 'failed') = (failure_code IS NOT NULL)),
        CONSTRAINT ck_endings_payer CHECK ((status = 'completed') = (payer_id IS NULL))
    ) STRICT
    """,
    "CREATE INDEX ix_endings_unexecuted ON endings (status, id) WHERE payer_id IS NOT NULL",
    "CREATE INDEX ix_endings_unexecuted_by_payer ON endings (payer_id, status, id) WHERE payer_id IS NOT NULL",
    """CREATE TRIGGER endings_never_change BEFORE UPDATE ON endings
    BEGIN SELECT RAISE(ABORT, 'an ending never changes'); END""",
    """CREATE TRIGGER endings_stay BEFORE DELETE ON endings
    BEGIN SELECT RAISE(ABORT, 'an ending is never deleted'); END""",
    """
    CREATE TABLE lanes (
        name TEXT NOT NULL,
        next_id INTEGER NOT NULL,
        newest_at INTEGER NOT NULL,
        watermark INTEGER NOT NULL,
        CONSTRAINT pk_lanes PRIMARY KEY (name),
        CONSTRAINT ck_lanes_name CHECK (name IN ('accept', 'settle'))
    ) WITHOUT ROWID, STRICT
    """,
    """
    CREATE TABLE reservations (
        account_id INTEGER NOT NULL,
        reserved_count INTEGER NOT NULL,
        reserved_high INTEGER NOT NULL,
        reserved_low INTEGER NOT NULL,
        last_transfer_id INTEGER,
        CONSTRAINT pk_reservations PRIMARY KEY (account_id),
        CONSTRAINT fk_reservations_account_id FOREIGN KEY(account_id) REFERENCES accounts (id)
    ) STRICT
    """,
    """
    CREATE TABLE new_transfers (
        id INTEGER NOT NULL,
        public_id BLOB NOT NULL,
        kind TEXT NOT NULL,
        from_account_id INTEGER NOT NULL,
        to_account_id INTEGER NOT NULL,
        amount INTEGER NOT NULL,
        currency TEXT NOT NULL,
        description TEXT,
        submitted_by INTEGER NOT NULL,
        request_id TEXT NOT NULL,
        idempotency_key TEXT,
        fingerprint BLOB,
        answer_version INTEGER NOT NULL,
        previous_id INTEGER,
        created_at INTEGER NOT NULL,
        CONSTRAINT pk_transfers PRIMARY KEY (id),
        CONSTRAINT ck_transfers_kind CHECK (kind IN ('transfer', 'deposit', 'withdrawal')),
        CONSTRAINT ck_transfers_amount CHECK (amount BETWEEN 1 AND 1000000000000000),
        CONSTRAINT ck_transfers_accounts CHECK (from_account_id <> to_account_id),
        CONSTRAINT ck_transfers_fingerprint CHECK ((idempotency_key IS NULL) = (fingerprint IS NULL)),
        CONSTRAINT uq_transfers_public_id UNIQUE (public_id),
        CONSTRAINT fk_transfers_from_account_id FOREIGN KEY(from_account_id) REFERENCES accounts (id),
        CONSTRAINT fk_transfers_to_account_id FOREIGN KEY(to_account_id) REFERENCES accounts (id),
        CONSTRAINT fk_transfers_submitted_by FOREIGN KEY(submitted_by) REFERENCES users (id)
    ) STRICT
    """,
    "DROP INDEX ix_transfers_waypoints",
    """
    CREATE INDEX ix_transfers_waypoints ON new_transfers (from_account_id, id)
    WHERE ((created_at + id) & 65535) * 40503 & 65535 < 1024
    """,
    """
    CREATE TABLE new_accounts (
        id INTEGER NOT NULL,
        public_id BLOB NOT NULL,
        owner_id INTEGER,
        account_number TEXT NOT NULL,
        kind TEXT NOT NULL,
        currency TEXT NOT NULL,
        status TEXT NOT NULL,
        freeze_scope TEXT,
        balance INTEGER NOT NULL,
        overdraft_limit INTEGER NOT NULL,
        last_transaction_id INTEGER,
        created_at INTEGER NOT NULL,
        closed_at INTEGER,
        released_count INTEGER DEFAULT 0 NOT NULL,
        released_high INTEGER DEFAULT 0 NOT NULL,
        released_low INTEGER DEFAULT 0 NOT NULL,
        leg_count INTEGER DEFAULT 0 NOT NULL,
        credits_high INTEGER DEFAULT 0 NOT NULL,
        credits_low INTEGER DEFAULT 0 NOT NULL,
        CONSTRAINT pk_accounts PRIMARY KEY (id),
        CONSTRAINT ck_accounts_kind CHECK (kind IN ('customer', 'external')),
        CONSTRAINT ck_accounts_status CHECK (status IN ('active', 'frozen', 'closed')),
        CONSTRAINT ck_accounts_owner CHECK ((kind = 'external') = (owner_id IS NULL)),
        CONSTRAINT ck_accounts_frozen CHECK ((status = 'frozen') = (freeze_scope IS NOT NULL)),
        CONSTRAINT ck_accounts_freeze_scope CHECK (freeze_scope IN ('debit', 'all')),
        CONSTRAINT ck_accounts_closed CHECK ((status = 'closed') = (closed_at IS NOT NULL)),
        CONSTRAINT ck_accounts_currency CHECK (length(currency) = 3),
        CONSTRAINT ck_accounts_overdraft_limit CHECK (overdraft_limit BETWEEN 0 AND 9000000000000000),
        CONSTRAINT ck_accounts_balance CHECK (CASE kind WHEN 'external'
            THEN abs(balance) <= 9000000000000000000 ELSE balance BETWEEN -overdraft_limit AND 9000000000000000 END),
        CONSTRAINT uq_accounts_public_id UNIQUE (public_id),
        CONSTRAINT fk_accounts_owner_id FOREIGN KEY(owner_id) REFERENCES users (id),
        CONSTRAINT uq_accounts_account_number UNIQUE (account_number)
    ) STRICT
    """,
    "DROP INDEX ix_accounts_owner_id_id",
    "CREATE INDEX ix_accounts_owner_id_id ON new_accounts (owner_id, id)",
    "DROP INDEX uq_accounts_external_currency",
    "CREATE UNIQUE INDEX uq_accounts_external_currency ON new_accounts (currency) WHERE kind = 'external'",
)


def upgrade() -> None:
    """Create the tables."""
    for statement in STATEMENTS:
        op.execute(statement)
