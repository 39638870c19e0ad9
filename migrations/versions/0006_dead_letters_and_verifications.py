"""Messages that keep failing, and the result of each verification.

Revision: 0006, after 0005
"""

from alembic import op

revision = "0006"
down_revision = "0005"

STATEMENTS = (
    """
    CREATE TABLE dead_letters (
        id INTEGER NOT NULL,
        public_id BLOB NOT NULL,
        queue TEXT NOT NULL,
        actor TEXT NOT NULL,
        arguments TEXT NOT NULL,
        error TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        first_failed_at INTEGER NOT NULL,
        last_failed_at INTEGER NOT NULL,
        parked_at INTEGER,
        CONSTRAINT pk_dead_letters PRIMARY KEY (id),
        CONSTRAINT uq_dead_letters_actor_arguments UNIQUE (actor, arguments),
        CONSTRAINT ck_dead_letters_attempts CHECK (attempts >= 0),
        CONSTRAINT ck_dead_letters_arguments CHECK (json_type(arguments) = 'array'),
        CONSTRAINT uq_dead_letters_public_id UNIQUE (public_id)
    ) STRICT
    """,
    "CREATE INDEX ix_dead_letters_parked ON dead_letters (id) WHERE parked_at IS NOT NULL",
    """
    CREATE TABLE verifications (
        id INTEGER NOT NULL,
        started_at INTEGER NOT NULL,
        finished_at INTEGER NOT NULL,
        accounts INTEGER NOT NULL,
        transfers INTEGER NOT NULL,
        transactions INTEGER NOT NULL,
        breaches INTEGER NOT NULL,
        details TEXT NOT NULL,
        CONSTRAINT pk_verifications PRIMARY KEY (id),
        CONSTRAINT ck_verifications_details CHECK (json_type(details) = 'array')
    ) STRICT
    """,
)


def upgrade() -> None:
    """Create the tables and their index."""
    for statement in STATEMENTS:
        op.execute(statement)
