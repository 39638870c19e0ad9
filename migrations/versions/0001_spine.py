"""The spine: users, their tokens, accounts, transfers and transactions.

Revision: 0001

Written as the SQL that SQLite stores, so that CHECKs, partial indexes, triggers and STRICT can be read here.
A test compares it with the models.
"""

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = (
    """
    CREATE TABLE fences (
        id INTEGER NOT NULL,
        passed INTEGER NOT NULL,
        CONSTRAINT pk_fences PRIMARY KEY (id),
        CONSTRAINT ck_fences_id CHECK (id = 1)
    ) STRICT
    """,
    """
    CREATE TABLE users (
        id INTEGER NOT NULL,
        public_id BLOB NOT NULL,
        email TEXT NOT NULL,
        name TEXT,
        password_hash TEXT NOT NULL,
        role TEXT NOT NULL,
        is_active INTEGER NOT NULL,
        token_version INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        CONSTRAINT pk_users PRIMARY KEY (id),
        CONSTRAINT ck_users_role CHECK (role IN ('customer', 'operator', 'system')),
        CONSTRAINT ck_users_is_active CHECK (is_active IN (0, 1)),
        CONSTRAINT ck_users_email_lower CHECK (email = lower(email)),
        CONSTRAINT uq_users_public_id UNIQUE (public_id),
        CONSTRAINT uq_users_email UNIQUE (email)
    ) STRICT
    """,
    """
    CREATE TABLE accounts (
        id INTEGER NOT NULL,
        public_id BLOB NOT NULL,
        owner_id INTEGER,
        account_number TEXT NOT NULL,
        kind TEXT NOT NULL,
        currency TEXT NOT NULL,
        status TEXT NOT NULL,
        freeze_scope TEXT,
        balance INTEGER NOT NULL,
        reserved INTEGER NOT NULL,
        overdraft_limit INTEGER NOT NULL,
        last_transaction_id INTEGER,
        last_transfer_id INTEGER,
        created_at INTEGER NOT NULL,
        closed_at INTEGER,
        CONSTRAINT pk_accounts PRIMARY KEY (id),
        CONSTRAINT ck_accounts_kind CHECK (kind IN ('customer', 'external')),
        CONSTRAINT ck_accounts_status CHECK (status IN ('active', 'frozen', 'closed')),
        CONSTRAINT ck_accounts_owner CHECK ((kind = 'external') = (owner_id IS NULL)),
        CONSTRAINT ck_accounts_frozen CHECK ((status = 'frozen') = (freeze_scope IS NOT NULL)),
        CONSTRAINT ck_accounts_freeze_scope CHECK (freeze_scope IN ('debit', 'all')),
        CONSTRAINT ck_accounts_closed CHECK ((status = 'closed') = (closed_at IS NOT NULL)),
        CONSTRAINT ck_accounts_currency CHECK (length(currency) = 3),
        CONSTRAINT ck_accounts_reserved CHECK (reserved >= 0),
        CONSTRAINT ck_accounts_overdraft_limit CHECK (overdraft_limit BETWEEN 0 AND 9000000000000000),
        CONSTRAINT ck_accounts_balance CHECK (CASE kind WHEN 'external'
            THEN abs(balance) <= 9000000000000000000 ELSE balance BETWEEN -overdraft_limit AND 9000000000000000 END),
        CONSTRAINT uq_accounts_public_id UNIQUE (public_id),
        CONSTRAINT fk_accounts_owner_id FOREIGN KEY(owner_id) REFERENCES users (id),
        CONSTRAINT uq_accounts_account_number UNIQUE (account_number)
    ) STRICT
    """,
    """
    CREATE INDEX ix_accounts_owner_id_id ON accounts (owner_id, id)
    """,
    """
    CREATE UNIQUE INDEX uq_accounts_external_currency ON accounts (currency) WHERE kind = 'external'
    """,
    """
    CREATE TABLE refresh_tokens (
        id INTEGER NOT NULL,
        user_id INTEGER NOT NULL,
        family BLOB NOT NULL,
        digest BLOB NOT NULL,
        token_version INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        spent_at INTEGER,
        CONSTRAINT pk_refresh_tokens PRIMARY KEY (id),
        CONSTRAINT fk_refresh_tokens_user_id FOREIGN KEY(user_id) REFERENCES users (id),
        CONSTRAINT uq_refresh_tokens_digest UNIQUE (digest)
    ) STRICT
    """,
    """
    CREATE INDEX ix_refresh_tokens_family ON refresh_tokens (family)
    """,
    """
    CREATE INDEX ix_refresh_tokens_expires_at ON refresh_tokens (expires_at)
    """,
    """
    CREATE TABLE transfers (
        id INTEGER NOT NULL,
        public_id BLOB NOT NULL,
        kind TEXT NOT NULL,
        status TEXT NOT NULL,
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
        settled_at INTEGER,
        failure_code TEXT,
        CONSTRAINT pk_transfers PRIMARY KEY (id),
        CONSTRAINT ck_transfers_kind CHECK (kind IN ('transfer', 'deposit', 'withdrawal')),
        CONSTRAINT ck_transfers_status CHECK (status IN ('pending', 'completed', 'failed', 'cancelled')),
        CONSTRAINT ck_transfers_amount CHECK (amount BETWEEN 1 AND 1000000000000000),
        CONSTRAINT ck_transfers_accounts CHECK (from_account_id <> to_account_id),
        CONSTRAINT ck_transfers_settled CHECK ((status = 'pending') = (settled_at IS NULL)),
        CONSTRAINT ck_transfers_failure CHECK ((status = 'failed') = (failure_code IS NOT NULL)),
        CONSTRAINT ck_transfers_fingerprint CHECK ((idempotency_key IS NULL) = (fingerprint IS NULL)),
        CONSTRAINT uq_transfers_public_id UNIQUE (public_id),
        CONSTRAINT fk_transfers_from_account_id FOREIGN KEY(from_account_id) REFERENCES accounts (id),
        CONSTRAINT fk_transfers_to_account_id FOREIGN KEY(to_account_id) REFERENCES accounts (id),
        CONSTRAINT fk_transfers_submitted_by FOREIGN KEY(submitted_by) REFERENCES users (id)
    ) STRICT
    """,
    """
    CREATE INDEX ix_transfers_pending ON transfers (id) WHERE status = 'pending'
    """,
    """
    CREATE UNIQUE INDEX uq_transfers_idempotency_key ON transfers (idempotency_key, submitted_by)
        WHERE idempotency_key IS NOT NULL
    """,
    """
    CREATE TRIGGER transfers_end_once BEFORE UPDATE ON transfers WHEN OLD.status <> 'pending'
    BEGIN SELECT RAISE(ABORT, 'a transfer that has ended never changes'); END
    """,
    """
    CREATE TRIGGER transfers_keep_terms BEFORE UPDATE OF id, public_id, kind, from_account_id, to_account_id, amount,
        currency, description, submitted_by, request_id, idempotency_key, fingerprint, answer_version, previous_id,
        created_at ON transfers
    BEGIN SELECT RAISE(ABORT, 'the terms of a transfer never change'); END
    """,
    """
    CREATE TRIGGER transfers_stay BEFORE DELETE ON transfers
    BEGIN SELECT RAISE(ABORT, 'a transfer is never deleted'); END
    """,
    """
    CREATE TABLE transactions (
        id INTEGER NOT NULL,
        transfer_id INTEGER NOT NULL,
        account_id INTEGER NOT NULL,
        amount INTEGER NOT NULL,
        balance_after INTEGER NOT NULL,
        posted_at INTEGER NOT NULL,
        previous_id INTEGER,
        CONSTRAINT pk_transactions PRIMARY KEY (id),
        CONSTRAINT ck_transactions_amount CHECK (amount <> 0),
        CONSTRAINT fk_transactions_transfer_id FOREIGN KEY(transfer_id) REFERENCES transfers (id),
        CONSTRAINT fk_transactions_account_id FOREIGN KEY(account_id) REFERENCES accounts (id)
    ) STRICT
    """,
    """
    CREATE TRIGGER transactions_never_change BEFORE UPDATE ON transactions
    BEGIN SELECT RAISE(ABORT, 'a transaction never changes'); END
    """,
    """
    CREATE TRIGGER transactions_stay BEFORE DELETE ON transactions
    BEGIN SELECT RAISE(ABORT, 'a transaction is never deleted'); END
    """,
    """
    INSERT INTO fences (id, passed) VALUES (1, 0)
    """,
    # The bank itself; its password hash matches nothing.
    """
    INSERT INTO users (id, public_id, email, name, password_hash, role, is_active, token_version, created_at)
    VALUES (1, randomblob(16), 'system@giro.invalid', 'Giro', '!', 'system', 0, 0, 0)
    """,
)


def upgrade() -> None:
    """Create every table, index and trigger, and the rows that must exist."""
    for statement in STATEMENTS:
        op.execute(statement)
