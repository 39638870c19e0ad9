"""Statements, the runs that make them, and the groups of accounts of a run.

Revision: 0005, after 0004
"""

from alembic import op

revision = "0005"
down_revision = "0004"

STATEMENTS = (
    """
    CREATE TABLE statement_runs (
        id INTEGER NOT NULL,
        period TEXT NOT NULL,
        time_zone TEXT NOT NULL,
        starts_at INTEGER NOT NULL,
        ends_at INTEGER NOT NULL,
        opened_at INTEGER NOT NULL,
        group_count INTEGER NOT NULL,
        groups_done INTEGER NOT NULL,
        statements INTEGER NOT NULL,
        finished_at INTEGER,
        CONSTRAINT pk_statement_runs PRIMARY KEY (id),
        CONSTRAINT ck_statement_runs_bounds CHECK (starts_at < ends_at),
        CONSTRAINT ck_statement_runs_groups_done CHECK (groups_done BETWEEN 0 AND group_count),
        CONSTRAINT ck_statement_runs_finished CHECK ((groups_done = group_count) = (finished_at IS NOT NULL)),
        CONSTRAINT uq_statement_runs_period UNIQUE (period)
    ) STRICT
    """,
    """
    CREATE TRIGGER statement_runs_keep_their_month BEFORE UPDATE OF id, period, time_zone, starts_at, ends_at,
    opened_at, group_count ON statement_runs
    BEGIN SELECT RAISE(ABORT, 'a run keeps its month'); END
    """,
    """
    CREATE TRIGGER statement_runs_stay BEFORE DELETE ON statement_runs
    BEGIN SELECT RAISE(ABORT, 'a run is never deleted'); END
    """,
    """
    CREATE TRIGGER statement_runs_follow BEFORE INSERT ON statement_runs
    WHEN NEW.starts_at <> (SELECT ends_at FROM statement_runs ORDER BY id DESC LIMIT 1)
    BEGIN SELECT RAISE(ABORT, 'a run begins where the one before it ends'); END
    """,
    """
    CREATE TABLE statement_groups (
        id INTEGER NOT NULL,
        run_id INTEGER NOT NULL,
        first_account_id INTEGER NOT NULL,
        last_account_id INTEGER NOT NULL,
        done_at INTEGER,
        CONSTRAINT pk_statement_groups PRIMARY KEY (id),
        CONSTRAINT ck_statement_groups_accounts CHECK (first_account_id <= last_account_id),
        CONSTRAINT fk_statement_groups_run_id FOREIGN KEY(run_id) REFERENCES statement_runs (id)
    ) STRICT
    """,
    "CREATE INDEX ix_statement_groups_undone ON statement_groups (id) WHERE done_at IS NULL",
    """
    CREATE TABLE statements (
        id INTEGER NOT NULL,
        public_id BLOB NOT NULL,
        account_id INTEGER NOT NULL,
        run_id INTEGER NOT NULL,
        status TEXT NOT NULL,
        number INTEGER,
        holder TEXT,
        bank_name TEXT,
        bank_address TEXT,
        bank_bic TEXT,
        opening_balance INTEGER,
        closing_balance INTEGER,
        total_credits TEXT,
        total_debits TEXT,
        transaction_count INTEGER,
        opening_transaction_id INTEGER,
        closing_transaction_id INTEGER,
        made_at INTEGER,
        CONSTRAINT pk_statements PRIMARY KEY (id),
        CONSTRAINT uq_statements_account_id_run_id UNIQUE (account_id, run_id),
        CONSTRAINT ck_statements_status CHECK (status IN ('pending', 'final')),
        CONSTRAINT ck_statements_figures CHECK ((status = 'final') = (number IS NOT NULL)
            AND (status = 'final') = (holder IS NOT NULL) AND (status = 'final') = (bank_name IS NOT NULL)
            AND (status = 'final') = (opening_balance IS NOT NULL)
            AND (status = 'final') = (closing_balance IS NOT NULL)
            AND (status = 'final') = (total_credits IS NOT NULL) AND (status = 'final') = (total_debits IS NOT NULL)
            AND (status = 'final') = (transaction_count IS NOT NULL) AND (status = 'final') = (made_at IS NOT NULL)),
        CONSTRAINT uq_statements_public_id UNIQUE (public_id),
        CONSTRAINT fk_statements_account_id FOREIGN KEY(account_id) REFERENCES accounts (id),
        CONSTRAINT fk_statements_run_id FOREIGN KEY(run_id) REFERENCES statement_runs (id)
    ) STRICT
    """,
    "CREATE INDEX ix_statements_pending ON statements (id) WHERE status = 'pending'",
    """
    CREATE TRIGGER statements_never_change BEFORE UPDATE ON statements WHEN OLD.status = 'final'
    BEGIN SELECT RAISE(ABORT, 'a statement never changes'); END
    """,
    """
    CREATE TRIGGER statements_keep_their_month BEFORE UPDATE OF id, public_id, account_id, run_id ON statements
    BEGIN SELECT RAISE(ABORT, 'a statement keeps its account and its month'); END
    """,
    """
    CREATE TRIGGER statements_stay BEFORE DELETE ON statements
    BEGIN SELECT RAISE(ABORT, 'a statement is never deleted'); END
    """,
)


def upgrade() -> None:
    """Create the tables, their indexes and their triggers."""
    for statement in STATEMENTS:
        op.execute(statement)
