"""Results of verifications in the database."""

import json
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import to_datetime
from core.domain.verification import Breach, VerificationView
from core.storage.models import Verification
from core.storage.sql import Statement

_NEWEST = Statement("SELECT started_at, finished_at, breaches FROM verifications ORDER BY id DESC LIMIT 1")
_NEWEST_FULL = Statement(
    "SELECT started_at, finished_at, breaches FROM verifications WHERE scope = 'full' ORDER BY id DESC LIMIT 1"
)
_NEWEST_HEAD = Statement("SELECT height, head_hash, breaches FROM verifications ORDER BY id DESC LIMIT 1")
_NEWEST_BREACHES = Statement("SELECT breaches FROM verifications ORDER BY id DESC LIMIT 1")
_HIGHEST_ANCHOR = Statement("SELECT max(anchored_height) FROM verifications")


class Outcome(NamedTuple):
    """When a verification began and ended, and how many breaches it found."""

    started_at: datetime
    finished_at: datetime
    breach_count: int


class VerifiedHead(NamedTuple):
    """The last block of a verification that holds."""

    height: int
    hash: bytes


def add(connection: Connection, result: VerificationView) -> None:
    """Store the result of a verification."""
    connection.execute(
        insert(Verification).values(
            scope=result.scope,
            started_at=result.started_at,
            finished_at=result.finished_at,
            accounts=result.accounts,
            transfers=result.transfers,
            transactions=result.transactions,
            breaches=result.breach_count,
            details=json.dumps([[breach.rule, breach.detail, breach.places] for breach in result.breaches]),
            height=result.height,
            head_hash=result.head_hash,
            anchored_height=result.anchored_height,
        )
    )


def last_head(connection: Connection) -> VerifiedHead | None:
    """Return the last block of the last verification; None without one, or if it found breaches."""
    row = _NEWEST_HEAD.named(connection).first()
    return VerifiedHead(row.height, row.head_hash) if row and row.head_hash is not None and row.breaches == 0 else None


def newest_breaches(connection: Connection) -> int:
    """Return how many breaches the last verification found; 0 before the first."""
    return _NEWEST_BREACHES.run(connection).scalar() or 0


def newest_full(connection: Connection) -> Outcome | None:
    """Read the outcome of the last verification of the whole ledger; None before the first."""
    return _outcome(connection, _NEWEST_FULL)


def highest_anchor(connection: Connection) -> int | None:
    """Return the highest block of which a verification has seen an anchor; None if there is no such block."""
    height: int | None = _HIGHEST_ANCHOR.run(connection).scalar()
    return height


def newest(connection: Connection) -> Outcome | None:
    """Read the outcome of the last verification; None before the first."""
    return _outcome(connection, _NEWEST)


async def last(session: AsyncSession) -> VerificationView | None:
    """Read the result of the last verification; None before the first."""
    query = select(Verification).order_by(Verification.id.desc()).limit(1)
    row = (await session.execute(query)).scalar_one_or_none()
    return _view(row) if row else None


def _outcome(connection: Connection, statement: Statement) -> Outcome | None:
    row = statement.named(connection).first()
    return Outcome(to_datetime(row.started_at), to_datetime(row.finished_at), row.breaches) if row else None


def _view(row: Verification) -> VerificationView:
    return VerificationView(
        scope=row.scope,
        started_at=row.started_at,
        finished_at=row.finished_at,
        accounts=row.accounts,
        transfers=row.transfers,
        transactions=row.transactions,
        breach_count=row.breaches,
        breaches=tuple(_breach(*stored) for stored in json.loads(row.details)),
        height=row.height,
        head_hash=row.head_hash,
        anchored_height=row.anchored_height,
    )


def _breach(rule: str, detail: str, places: dict[str, int] | None = None) -> Breach:
    """Read a stored breach. Older ones have no places."""
    return Breach(rule, detail, **(places or {}))
