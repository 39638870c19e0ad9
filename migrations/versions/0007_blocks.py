"""The chain of blocks, started over the existing transfers, and the position that each verification reached.

Revision: 0007, after 0006
"""

import struct
import time
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from alembic import op
from sqlalchemy import Connection

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
"""Number of rows to read at once: the ledger may be larger than the memory."""

LEG = "id, transfer_id, account_id, amount, balance_after, posted_at, previous_id"
TERMS = (
    "id, public_id, kind, from_account_id, to_account_id, amount, currency, description, submitted_by, request_id, "
    "idempotency_key, fingerprint, answer_version, previous_id, created_at"
)

# A copy of the code for blocks of version 1 (docs/reference/blocks.md): later versions must not change this migration.
TAG = b"giro.block.v1\x00"
PACKED_HEADER = struct.Struct(">14s 32s 12s 7q 64s")
PACKED_LEG = struct.Struct(">7q")
PACKED_ENDING = struct.Struct(">q 16s 8q 8i")


def upgrade() -> None:
    """Create the table, and write the blocks over all settled and cancelled transfers."""
    for statement in STATEMENTS:
        op.execute(statement)
    connection = op.get_bind()
    head, next_leg, after = _add_genesis(connection)
    height, no_legs = 0, sha256().digest()
    # Transfers cancelled while an older one is still pending: the genesis block ends before them.
    while rows := _ended(connection, after):
        for _status, ended_at, _failure, *terms in rows:
            height, after = height + 1, terms[0]
            ending = sha256(_packed_ending("cancelled", ended_at, None, *terms)).digest()
            figures = (height, next_leg, 0, after, after, 1, ended_at)
            head = _add(connection, "cancellation", head, figures, no_legs + ending)


def _add_genesis(connection: Connection) -> tuple[bytes, int, int]:
    """Write the first block; return its hash, the id of the next leg, and the last transfer that it covers."""
    legs, leg_count, last_leg = sha256(), 0, 0
    query = f"SELECT {LEG} FROM transactions WHERE id > ? ORDER BY id LIMIT {ROWS}"
    while rows := connection.exec_driver_sql(query, (last_leg,)).fetchall():
        legs.update(b"".join(PACKED_LEG.pack(*row[:6], row[6] or 0) for row in rows))
        leg_count, last_leg = leg_count + len(rows), rows[-1][0]
    endings, ending_count, last = sha256(), 0, 0
    oldest = connection.exec_driver_sql("SELECT min(id) FROM transfers WHERE status = 'pending'").scalar()
    while rows := _ended(connection, last, below=oldest):
        endings.update(b"".join(_packed_ending(*row) for row in rows))
        ending_count, last = ending_count + len(rows), rows[-1][3]
    figures = (0, 1, leg_count, 1, last, ending_count, time.time_ns() // 1000)
    head = _add(connection, "genesis", bytes(32), figures, legs.digest() + endings.digest())
    return head, 1 + leg_count, last


def _ended(connection: Connection, after: int, *, below: int | None = None) -> Sequence[Any]:
    """Return some ended transfers: status, time, failure and terms of each."""
    query = (
        f"SELECT status, settled_at, failure_code, {TERMS} FROM transfers "
        f"WHERE status <> 'pending' AND id > ?1 AND (?2 IS NULL OR id < ?2) ORDER BY id LIMIT {ROWS}"
    )
    return connection.exec_driver_sql(query, (after, below)).fetchall()


def _packed_ending(status: str, ended_at: int, failure: str | None, *terms: Any) -> bytes:
    (sequence, public_id, kind, payer, payee, amount, currency, description, submitted_by, request_id, key, fingerprint,
     version, previous_id, created_at) = terms  # fmt: skip
    numbers = (payer, payee, amount, submitted_by, version, previous_id or 0, created_at, ended_at)
    texts = (kind, currency, status, failure, request_id, description, key)
    lengths = (-1 if value is None else len(value) for value in (*texts, fingerprint))
    packed = PACKED_ENDING.pack(sequence, public_id, *numbers, *lengths)
    return packed + "".join(text or "" for text in texts).encode() + (fingerprint or b"")


def _add(connection: Connection, kind: str, before: bytes, figures: tuple[int, ...], body: bytes) -> bytes:
    """Write the block after the one with the hash `before`; return its hash. `body`: hashes of legs and endings."""
    digest = sha256(PACKED_HEADER.pack(TAG, before, kind.encode(), *figures, body)).digest()
    height, *others = figures
    query = "INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    connection.exec_driver_sql(query, (height, kind, *others, digest))
    return digest
