"""The chain of blocks, begun over what there is, and how far each verification went.

Revision: 0007, after 0006
"""

from typing import Any

from alembic import op
from sqlalchemy import Connection

from core.clock import now_us
from core.domain.blocks import Block, BlockKind, Sealer, cancellation
from core.domain.transfers import Terms

revision = "0007"
down_revision = "0006"

STATEMENTS = (
    """
    CREATE TABLE blocks (
        height INTEGER NOT NULL,
        kind TEXT NOT NULL,
        first_leg_id INTEGER NOT NULL,
        leg_count INTEGER NOT NULL,
        first_sequence INTEGER NOT NULL,
        last_sequence INTEGER NOT NULL,
        ending_count INTEGER NOT NULL,
        made_at INTEGER NOT NULL,
        hash BLOB NOT NULL,
        CONSTRAINT pk_blocks PRIMARY KEY (height),
        CONSTRAINT ck_blocks_kind CHECK (kind IN ('genesis', 'settlement', 'cancellation')),
        CONSTRAINT ck_blocks_genesis CHECK ((kind = 'genesis') = (height = 0)),
        CONSTRAINT ck_blocks_one CHECK (kind <> 'cancellation' OR (first_sequence = last_sequence AND leg_count = 0)),
        CONSTRAINT ck_blocks_counts CHECK (leg_count >= 0 AND ending_count >= 0),
        CONSTRAINT ck_blocks_hash CHECK (length(hash) = 32)
    ) STRICT
    """,
    "CREATE UNIQUE INDEX uq_blocks_cancelled ON blocks (first_sequence) WHERE kind = 'cancellation'",
    """CREATE TRIGGER blocks_never_change BEFORE UPDATE ON blocks
    BEGIN SELECT RAISE(ABORT, 'a block never changes'); END""",
    """CREATE TRIGGER blocks_stay BEFORE DELETE ON blocks
    BEGIN SELECT RAISE(ABORT, 'a block is never deleted'); END""",
    "ALTER TABLE verifications RENAME TO old_verifications",
    """
    CREATE TABLE verifications (
        id INTEGER NOT NULL,
        scope TEXT NOT NULL,
        started_at INTEGER NOT NULL,
        finished_at INTEGER NOT NULL,
        accounts INTEGER NOT NULL,
        transfers INTEGER NOT NULL,
        transactions INTEGER NOT NULL,
        breaches INTEGER NOT NULL,
        details TEXT NOT NULL,
        height INTEGER,
        head_hash BLOB,
        anchored_height INTEGER,
        CONSTRAINT pk_verifications PRIMARY KEY (id),
        CONSTRAINT ck_verifications_scope CHECK (scope IN ('full', 'recent')),
        CONSTRAINT ck_verifications_details CHECK (json_type(details) = 'array'),
        CONSTRAINT ck_verifications_head CHECK ((height IS NULL) = (head_hash IS NULL))
    ) STRICT
    """,
    """
    INSERT INTO verifications
        (id, scope, started_at, finished_at, accounts, transfers, transactions, breaches, details)
    SELECT id, 'full', started_at, finished_at, accounts, transfers, transactions, breaches, details
    FROM old_verifications
    """,
    "DROP TABLE old_verifications",
)

ROWS = 10_000
"""Rows that are read at once: the ledger may be larger than the memory."""

# As the code has it at this revision; blocks of this version are hashed over these columns for ever.
LEG = "id, transfer_id, account_id, amount, balance_after, posted_at, previous_id"
TERMS = (
    "id, public_id, kind, from_account_id, to_account_id, amount, currency, description, submitted_by, request_id, "
    "idempotency_key, fingerprint, answer_version, previous_id, created_at"
)


def upgrade() -> None:
    """Create the table, and write the blocks that cover what has been settled and cancelled so far."""
    for statement in STATEMENTS:
        op.execute(statement)
    connection = op.get_bind()
    head = _genesis(connection)
    _add(connection, head)
    # Cancelled while an older transfer is still pending: no genesis reaches that far.
    after = head.last_sequence
    while rows := _ended(connection, after):
        for row in rows:
            head = cancellation(head, Terms(*row[3:]), row[1])
            _add(connection, head)
        after = rows[-1][3]


def _genesis(connection: Connection) -> Block:
    sealer, leg, sequence = Sealer(), 0, 0
    query = f"SELECT {LEG} FROM transactions WHERE id > ? ORDER BY id LIMIT {ROWS}"
    while legs := connection.exec_driver_sql(query, (leg,)).fetchall():
        sealer.add_legs(tuple(row) for row in legs)
        leg = legs[-1][0]
    oldest = connection.exec_driver_sql("SELECT min(id) FROM transfers WHERE status = 'pending'").scalar()
    while rows := _ended(connection, sequence, below=oldest):
        for row in rows:
            sealer.add_ending(Terms(*row[3:]), *row[:3])
        sequence = rows[-1][3]
    return sealer.seal(BlockKind.GENESIS, None, first_sequence=1, last_sequence=sequence, made_at=now_us())


def _ended(connection: Connection, after: int, *, below: int | None = None) -> list[Any]:
    """Read some transfers that have ended: status, time, failure and terms of each."""
    query = (
        f"SELECT status, settled_at, failure_code, {TERMS} FROM transfers "
        f"WHERE status <> 'pending' AND id > ?1 AND (?2 IS NULL OR id < ?2) ORDER BY id LIMIT {ROWS}"
    )
    return list(connection.exec_driver_sql(query, (after, below)).fetchall())


def _add(connection: Connection, block: Block) -> None:
    connection.exec_driver_sql(
        "INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            block.height,
            block.kind.value,
            block.first_leg_id,
            block.leg_count,
            block.first_sequence,
            block.last_sequence,
            block.ending_count,
            block.made_at,
            block.hash,
        ),
    )
