"""Verification reports kept in the database."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import to_datetime
from core.storage.models import Verification


def add(connection: Connection, **values: Any) -> None:
    """Store the result of a verification."""
    connection.execute(insert(Verification).values(**values))


def last_head(connection: Connection) -> tuple[int, bytes] | None:
    """Return the last block of the last verification, and its hash; None without one, or if it found breaches."""
    query = "SELECT height, head_hash, breaches FROM verifications ORDER BY id DESC LIMIT 1"
    row = connection.exec_driver_sql(query).first()
    return (row[0], row[1]) if row and row[1] is not None and row[2] == 0 else None


def newest_breaches(connection: Connection) -> int:
    """Return how many breaches the last verification found; 0 before the first."""
    query = "SELECT breaches FROM verifications ORDER BY id DESC LIMIT 1"
    return connection.exec_driver_sql(query).scalar() or 0


def newest_full(connection: Connection) -> tuple[datetime, datetime] | None:
    """Read when the last verification of the whole ledger began and ended; None before the first."""
    query = "SELECT started_at, finished_at FROM verifications WHERE scope = 'full' ORDER BY id DESC LIMIT 1"
    row = connection.exec_driver_sql(query).first()
    return (to_datetime(row[0]), to_datetime(row[1])) if row else None


def highest_anchor(connection: Connection) -> int | None:
    """Return the highest block of which a verification has seen an anchor; None if there is no such block."""
    return connection.exec_driver_sql("SELECT max(anchored_height) FROM verifications").scalar()


def newest(connection: Connection) -> tuple[datetime, datetime, int] | None:
    """Read when the last verification began and ended, and how many breaches it found; None before the first."""
    query = "SELECT started_at, finished_at, breaches FROM verifications ORDER BY id DESC LIMIT 1"
    row = connection.exec_driver_sql(query).first()
    return (to_datetime(row[0]), to_datetime(row[1]), row[2]) if row else None


async def last(session: AsyncSession) -> Verification | None:
    """Read the result of the last verification."""
    query = select(Verification).order_by(Verification.id.desc()).limit(1)
    return (await session.execute(query)).scalar_one_or_none()
