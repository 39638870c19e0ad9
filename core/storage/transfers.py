"""Transfers in the database."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import to_datetime
from core.domain.blocks import Ending
from core.domain.errors import ErrorCode
from core.domain.transfers import AcceptedTransfer, Terms, TransferKind, TransferStatus, TransferView
from core.storage import lanes
from core.storage.sql import EngineStatement, Insertion, Statement

KeyScope = tuple[str, int]
"""An idempotency key and the row id of the user whose key it is."""

TERMS = (
    "id, public_id, kind, from_account_id, to_account_id, amount, currency, description, submitted_by, request_id, "
    "idempotency_key, fingerprint, answer_version, previous_id, created_at"
)
"""The columns of `Terms`, in its order."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """The transfers that wait for settlement."""

    pending: int
    oldest_created_at: int | None
    """Microseconds since the epoch; None if no transfer waits."""
    last_settled: int
    """Every transfer up to this sequence has ended."""


# --- accepting ---------------------------------------------------------------------------------------------------


_BY_KEYS = EngineStatement("TRANSFERS_BY_KEYS")
_ADD = Insertion("transfers", TERMS)


def find_by_keys(connection: Connection, keys: Sequence[KeyScope]) -> dict[KeyScope, tuple[AcceptedTransfer, bytes]]:
    """Read the keys that were used: the transfer each was accepted with, and the fingerprint of its request."""
    if not keys:
        return {}
    rows = _BY_KEYS.run(connection, keys=keys)
    return {(key, user_id): (_accepted(accepted), digest) for key, user_id, digest, *accepted in rows}


def add(connection: Connection, transfers: Sequence[Terms]) -> None:
    """Insert pending transfers."""
    _ADD.run(connection, transfers)


# --- settling ----------------------------------------------------------------------------------------------------


class EndedElsewhere(Exception):
    """A transfer that was read as pending has an ending by now: another process has written it."""


IS_PENDING = "NOT EXISTS (SELECT 1 FROM endings WHERE endings.id = t.id)"
"""Whether a row of `transfers t` is pending; lists bound its sequence by the watermark."""

_PENDING = Statement(f"SELECT {TERMS} FROM transfers t WHERE id > :after AND {IS_PENDING} ORDER BY id LIMIT :limit")
_END = Insertion("endings", "id, status, ended_at, failure_code, payer_id")
_COMPLETE = Statement(
    "INSERT INTO endings (id, status, ended_at) SELECT transfer_id, 'completed', :ended_at FROM transactions "
    "WHERE id >= :first_leg AND amount < 0 ORDER BY id"
)
_ON_ITS_WAY = Statement(
    f"SELECT 1 FROM transfers t WHERE id > :watermark AND to_account_id = :account AND {IS_PENDING} LIMIT 1"
)
_TERMS = Statement(f"SELECT {TERMS} FROM transfers WHERE id = :id")
_BACKLOG = Statement(
    f"SELECT count(*), min(id), min(created_at) FROM transfers t WHERE id > :watermark AND {IS_PENDING}"
)


def read_pending(connection: Connection, *, after: int, limit: int) -> list[Terms]:
    """Read pending transfers in the order of acceptance, starting after the sequence `after`."""
    return [Terms._make(row) for row in _PENDING.run(connection, after=after, limit=limit)]


def end(connection: Connection, endings: Sequence[Ending]) -> None:
    """Write how transfers that are not executed ended: they failed or were cancelled. Raises EndedElsewhere.

    A second ending has no place in the table. This is the fence behind all locks, and the caller must roll back.
    """
    rows = [
        (terms.sequence, status, ended_at, failure, terms.from_account_id)
        for terms, status, ended_at, failure in endings
    ]
    with _ended_once():
        _END.run(connection, rows)


def complete(connection: Connection, *, first_leg: int, ended_at: int) -> None:
    """Write that the transfers whose legs begin at `first_leg` are completed (time in µs).

    This is one statement over the debits just written: a statement for each transfer would take as long as posting the
    legs. Raises EndedElsewhere, as `end` does.
    """
    with _ended_once():
        _COMPLETE.run(connection, first_leg=first_leg, ended_at=ended_at)


@contextmanager
def _ended_once() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise EndedElsewhere(
            "a transfer ended elsewhere while it was being settled; nothing of this was kept"
        ) from error


def one_is_on_its_way_to(connection: Connection, account_id: int) -> bool:
    """Return whether a pending transfer pays into an account. Reads pending transfers only."""
    watermark = lanes.read(connection).watermark
    return _ON_ITS_WAY.run(connection, watermark=watermark, account=account_id).first() is not None


def terms_of(connection: Connection, sequence: int) -> Terms:
    """Read the terms of one transfer."""
    return Terms(*_TERMS.run(connection, id=sequence).one())


def backlog(connection: Connection) -> Backlog:
    """Count the transfers that wait for settlement, and find out since when."""
    watermark = lanes.read(connection).watermark
    count, oldest, created_at = _BACKLOG.run(connection, watermark=watermark).one()
    return Backlog(count, created_at, watermark if oldest is None else oldest - 1)


# --- reading -----------------------------------------------------------------------------------------------------

COLUMNS = """
    t.public_id, t.id, t.kind, coalesce(e.status, 'pending'), payer.public_id, payee.public_id, t.amount, t.currency,
    t.description, t.created_at, e.ended_at, e.failure_code, t.submitted_by, payer.owner_id, payee.owner_id,
    CASE WHEN e.failure_code = 'batch_failed' THEN
        (SELECT b.failed_index FROM batches b WHERE b.id <= t.id ORDER BY b.id DESC LIMIT 1)
    END
"""
"""The columns that `view` reads."""
SIDES = (
    "JOIN accounts payer ON payer.id = t.from_account_id JOIN accounts payee ON payee.id = t.to_account_id "
    "LEFT JOIN endings e ON e.id = t.id"
)
"""The joins that `COLUMNS` needs, next to `transfers t`."""
_BY_ID = f"SELECT {COLUMNS} FROM transfers t {SIDES} WHERE t.public_id = :id"


async def get(session: AsyncSession, public_id: UUID) -> TransferView | None:
    """Read one transfer of any user."""
    row = (await session.execute(text(_BY_ID), {"id": public_id.bytes})).first()
    return view(row) if row else None


async def get_by_key(session: AsyncSession, key: str, user_id: int) -> TransferView | None:
    """Read the transfer that a user's idempotency key was accepted with."""
    query = f"SELECT {COLUMNS} FROM transfers t {SIDES} WHERE t.idempotency_key = :key AND t.submitted_by = :user"
    row = (await session.execute(text(query), {"key": key, "user": user_id})).first()
    return view(row) if row else None


def read(connection: Connection, public_id: UUID) -> TransferView | None:
    """Read one transfer inside a unit of work."""
    row = connection.execute(text(_BY_ID), {"id": public_id.bytes}).first()
    return view(row) if row else None


def view(row: Sequence[Any]) -> TransferView:
    """Make a transfer from a row of `COLUMNS`."""
    public_id, sequence, kind, status, payer, payee, amount, currency, description, *rest = row
    created_at, settled_at, failure, submitted_by, payer_owner, payee_owner, failed_index = rest
    return TransferView(
        id=UUID(bytes=public_id),
        sequence=sequence,
        kind=TransferKind(kind),
        status=TransferStatus(status),
        from_account_id=UUID(bytes=payer),
        to_account_id=UUID(bytes=payee),
        amount=amount,
        currency=currency,
        description=description,
        created_at=to_datetime(created_at),
        settled_at=None if settled_at is None else to_datetime(settled_at),
        failure_code=None if failure is None else ErrorCode.of(failure),
        submitted_by=submitted_by,
        payer_owner_id=payer_owner,
        payee_owner_id=payee_owner,
        failed_index=failed_index,
    )


def _accepted(row: Sequence[Any]) -> AcceptedTransfer:
    """Make a replay of a transfer from the columns of `find_by_keys`, from its public id on."""
    public_id, sequence, kind, payer, payee, amount, currency, description, created_at, version, request_id = row
    return AcceptedTransfer(
        id=UUID(bytes=public_id),
        sequence=sequence,
        kind=TransferKind(kind),
        from_account_id=UUID(bytes=payer),
        to_account_id=UUID(bytes=payee),
        amount=amount,
        currency=currency,
        description=description,
        created_at=to_datetime(created_at),
        answer_version=version,
        request_id=request_id,
        replayed=True,
    )
