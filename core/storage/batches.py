"""Batches in the database."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.domain.batches import AcceptedBatch, BatchMode
from core.domain.errors import ErrorCode
from core.storage.sql import Statement

Span = tuple[int, int]
"""The first and the last sequence of a batch."""


# --- accepting ---------------------------------------------------------------------------------------------------


_ADD = Statement(
    "INSERT INTO batches (id, public_id, mode, transfer_count, refused, answer_version) "
    "VALUES (:id, :public_id, :mode, :transfer_count, :refused, :answer_version)"
)
_ACCEPTED = Statement("SELECT public_id, transfer_count, refused, answer_version FROM batches WHERE id = :id")
_LINES = Statement("SELECT public_id FROM transfers WHERE id BETWEEN :first AND :last ORDER BY id")


def add(connection: Connection, batch: AcceptedBatch, mode: BatchMode) -> None:
    """Write a batch, in the unit of work that accepted its transfers."""
    assert batch.id is not None, "a batch without transfers is not written"
    refused = [(index, line.value) for index, line in enumerate(batch.lines) if isinstance(line, ErrorCode)]
    _ADD.run(
        connection,
        id=batch.first_sequence,
        public_id=batch.id.bytes,
        mode=mode.value,
        transfer_count=batch.accepted,
        refused=json.dumps(refused, separators=(",", ":")),
        answer_version=batch.answer_version,
    )


def read_accepted(connection: Connection, first_sequence: int) -> AcceptedBatch:
    """Read a batch as it was accepted, by its first transfer."""
    public_id, count, refused, version = _ACCEPTED.run(connection, id=first_sequence).one()
    last = first_sequence + count - 1
    lines: list[bytes | ErrorCode] = [row[0] for row in _LINES.run(connection, first=first_sequence, last=last)]
    for index, code in json.loads(refused):
        lines.insert(index, ErrorCode.of(code))  # in the order of the request: all earlier lines are in place
    return AcceptedBatch(
        id=UUID(bytes=public_id),
        lines=lines,
        answer_version=version,
        first_sequence=first_sequence,
        replayed=True,
    )


# --- settling ----------------------------------------------------------------------------------------------------


_ATOMIC_SPANS = Statement(
    "SELECT id, id + transfer_count - 1 FROM batches WHERE id BETWEEN :first AND :last AND mode = 'atomic' ORDER BY id"
)
_FAIL = Statement("UPDATE batches SET failed_index = :index WHERE id = :id")
_OF_TRANSFER = Statement("SELECT mode, id + transfer_count FROM batches WHERE id <= :id ORDER BY id DESC LIMIT 1")


def atomic_spans(connection: Connection, first: int, last: int) -> list[Span]:
    """Find the atomic batches whose first transfer is between two sequences, in their order."""
    return [(row[0], row[1]) for row in _ATOMIC_SPANS.run(connection, first=first, last=last)]


def fail(connection: Connection, failures: Sequence[tuple[int, int]]) -> None:
    """Record why atomic batches failed: (index of the line that caused it, first sequence) each."""
    if failures:
        _FAIL.run_each(connection, failures)


def is_atomic(connection: Connection, sequence: int) -> bool:
    """Return whether a transfer belongs to an atomic batch."""
    row: Any = _OF_TRANSFER.run(connection, id=sequence).first()
    return row is not None and row[0] == BatchMode.ATOMIC and sequence < row[1]


# --- reading -----------------------------------------------------------------------------------------------------


async def get_span(session: AsyncSession, public_id: UUID, user_id: int) -> Span | None:
    """Find the transfers of a batch, if it is this user's."""
    query = text(
        "SELECT b.id, b.id + b.transfer_count - 1 FROM batches b JOIN transfers t ON t.id = b.id "
        "WHERE b.public_id = :id AND t.submitted_by = :user"
    )
    row = (await session.execute(query, {"id": public_id.bytes, "user": user_id})).first()
    return (row[0], row[1]) if row else None
