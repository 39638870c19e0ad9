"""Batches in the database."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.domain.batches import AcceptedBatch, BatchMode
from core.domain.errors import ErrorCode

Span = tuple[int, int]
"""The first and the last sequence of a batch."""


# --- accepting ---------------------------------------------------------------------------------------------------


def add(connection: Connection, batch: AcceptedBatch, mode: BatchMode) -> None:
    """Write a batch, in the unit of work that accepted its transfers."""
    assert batch.id is not None, "a batch without transfers is not written"
    refused = [(index, line.value) for index, line in enumerate(batch.lines) if isinstance(line, ErrorCode)]
    connection.exec_driver_sql(
        "INSERT INTO batches (id, public_id, mode, transfer_count, refused, answer_version) VALUES (?, ?, ?, ?, ?, ?)",
        (
            batch.first_sequence,
            batch.id.bytes,
            mode.value,
            batch.accepted,
            json.dumps(refused, separators=(",", ":")),
            batch.answer_version,
        ),
    )


def read_accepted(connection: Connection, first_sequence: int) -> AcceptedBatch:
    """Read a batch as it was accepted, by its first transfer."""
    query = "SELECT public_id, transfer_count, refused, answer_version FROM batches WHERE id = ?"
    public_id, count, refused, version = connection.exec_driver_sql(query, (first_sequence,)).one()
    query = "SELECT public_id FROM transfers WHERE id BETWEEN ? AND ? ORDER BY id"
    lines: list[bytes | ErrorCode] = [
        row[0] for row in connection.exec_driver_sql(query, (first_sequence, first_sequence + count - 1))
    ]
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


def atomic_spans(connection: Connection, first: int, last: int) -> list[Span]:
    """Find the atomic batches whose first transfer is between two sequences, in their order."""
    query = "SELECT id, id + transfer_count - 1 FROM batches WHERE id BETWEEN ? AND ? AND mode = 'atomic' ORDER BY id"
    return [(row[0], row[1]) for row in connection.exec_driver_sql(query, (first, last))]


def fail(connection: Connection, failures: Sequence[tuple[int, int]]) -> None:
    """Record why atomic batches failed: (index of the line that caused it, first sequence) each."""
    if failures:
        connection.exec_driver_sql("UPDATE batches SET failed_index = ? WHERE id = ?", list(failures))


def is_atomic(connection: Connection, sequence: int) -> bool:
    """Return whether a transfer belongs to an atomic batch."""
    query = "SELECT mode, id + transfer_count FROM batches WHERE id <= ? ORDER BY id DESC LIMIT 1"
    row: Any = connection.exec_driver_sql(query, (sequence,)).first()
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
