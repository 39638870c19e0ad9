"""Running totals of accounts, their milestones, and a bound of pending transfers for single users.

The totals of existing legs are added up here, in one pass over the ledger. Its memory grows with the number of
accounts, and not with the ledger.

Revision: 0011, after 0010
"""

from alembic import op
from sqlalchemy import Connection

revision = "0011"
down_revision = "0010"

STATEMENTS = (
    """
    ALTER TABLE accounts ADD COLUMN pending_count INTEGER DEFAULT 0 NOT NULL
    CONSTRAINT ck_accounts_pending_count CHECK (pending_count >= 0)
    """,
    "ALTER TABLE accounts ADD COLUMN leg_count INTEGER DEFAULT 0 NOT NULL",
    "ALTER TABLE accounts ADD COLUMN credits_high INTEGER DEFAULT 0 NOT NULL",
    "ALTER TABLE accounts ADD COLUMN credits_low INTEGER DEFAULT 0 NOT NULL",
    """
    ALTER TABLE users ADD COLUMN pending_limit INTEGER
    CONSTRAINT ck_users_pending_limit CHECK (pending_limit >= 1)
    """,
    "CREATE INDEX ix_users_pending_limit ON users (pending_limit) WHERE pending_limit IS NOT NULL",
    """
    CREATE TABLE milestones (
        account_id INTEGER NOT NULL,
        posted_at INTEGER NOT NULL,
        transaction_id INTEGER NOT NULL,
        leg_count INTEGER NOT NULL,
        credits_high INTEGER NOT NULL,
        credits_low INTEGER NOT NULL,
        CONSTRAINT pk_milestones PRIMARY KEY (account_id, posted_at, transaction_id),
        CONSTRAINT fk_milestones_account_id FOREIGN KEY(account_id) REFERENCES accounts (id),
        CONSTRAINT fk_milestones_transaction_id FOREIGN KEY(transaction_id) REFERENCES transactions (id)
    ) WITHOUT ROWID, STRICT
    """,
    """CREATE TRIGGER milestones_never_change BEFORE UPDATE ON milestones
    BEGIN SELECT RAISE(ABORT, 'a milestone never changes'); END""",
    """CREATE TRIGGER milestones_stay BEFORE DELETE ON milestones
    BEGIN SELECT RAISE(ABORT, 'a milestone is never deleted'); END""",
    """
    UPDATE accounts SET pending_count = pending.count FROM (
        SELECT from_account_id AS account_id, count(*) AS count FROM transfers WHERE status = 'pending'
        GROUP BY from_account_id
    ) AS pending WHERE pending.account_id = accounts.id
    """,
)

ROWS = 10_000
"""Number of rows to read at once: the ledger may be larger than the memory."""

MILESTONE = 128
HALF = 10**9


def upgrade() -> None:
    """Add the columns and the table, count what is pending, and add the legs up."""
    for statement in STATEMENTS:
        op.execute(statement)
    connection = op.get_bind()
    totals = _add_up(connection)
    connection.exec_driver_sql(
        "CREATE TEMPORARY TABLE totals (id INTEGER PRIMARY KEY, n INTEGER, h INTEGER, l INTEGER)"
    )
    values = [(account, count, *divmod(received, HALF)) for account, (count, received) in totals.items()]
    if values:
        connection.exec_driver_sql("INSERT INTO totals VALUES (?, ?, ?, ?)", values)
    connection.exec_driver_sql(
        "UPDATE accounts SET leg_count = n, credits_high = h, credits_low = l FROM totals WHERE totals.id = accounts.id"
    )
    connection.exec_driver_sql("DROP TABLE totals")


def _add_up(connection: Connection) -> dict[int, tuple[int, int]]:
    """Write the milestones of all legs; return each account's number of legs and the sum of its credits."""
    totals: dict[int, tuple[int, int]] = {}
    query = f"SELECT id, account_id, amount, posted_at FROM transactions WHERE id > ? ORDER BY id LIMIT {ROWS}"
    last = 0
    while rows := connection.exec_driver_sql(query, (last,)).fetchall():
        milestones = []
        for leg, account, amount, posted_at in rows:
            count, received = totals.get(account, (0, 0))
            count, received = count + 1, received + max(amount, 0)
            totals[account] = count, received
            if count % MILESTONE == 0:
                milestones.append((account, posted_at, leg, count, *divmod(received, HALF)))
        if milestones:
            connection.exec_driver_sql("INSERT INTO milestones VALUES (?, ?, ?, ?, ?, ?)", milestones)
        last = rows[-1][0]
    return totals
