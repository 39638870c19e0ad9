"""Cards in the database. Card numbers never come here in clear: the layer above seals or digests them."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, func, insert, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from core.domain.accounts import AccountStatus
from core.domain.cards import CardStatus, CardView
from core.storage.models import Account, Card

_LIVE: ColumnElement[bool] = literal_column("status <> 'cancelled'")
"""Written as in the partial index `ix_cards_live`, which SQLite uses only for the same expression."""


def add(connection: Connection, **values: Any) -> int:
    """Insert an active card and return its row id."""
    result = connection.execute(insert(Card).values(status=CardStatus.ACTIVE, **values))
    row_id = result.inserted_primary_key
    assert row_id is not None
    return int(row_id[0])


def index_is_taken(connection: Connection, number_index: bytes) -> bool:
    """Return whether a card has the number of this blind index."""
    return connection.execute(select(Card.id).where(Card.number_index == number_index)).first() is not None


def count_live(connection: Connection, account_id: int) -> int:
    """Count an account's cards that are not cancelled."""
    query = select(func.count()).select_from(Card).where(Card.account_id == account_id, _LIVE)
    return connection.execute(query).scalar_one()


def read_owned(connection: Connection, owner_id: int, public_id: UUID) -> CardView | None:
    """Read one card inside a unit of work, if it is this user's."""
    row = connection.execute(_views().where(Card.public_id == public_id, Card.owner_id == owner_id)).mappings().first()
    return None if row is None else _view(row)


def set_status(connection: Connection, row_id: int, status: CardStatus, cancelled_at: datetime | None) -> None:
    """Set a card's own status, and for `cancelled` the time."""
    connection.execute(update(Card).where(Card.id == row_id).values(status=status, cancelled_at=cancelled_at))


def cancel_all_of(connection: Connection, account_id: int, cancelled_at: datetime) -> None:
    """Cancel every card of an account that is not cancelled yet."""
    connection.execute(
        update(Card)
        .where(Card.account_id == account_id, _LIVE)
        .values(status=CardStatus.CANCELLED, cancelled_at=cancelled_at)
    )


def shred_all_of(connection: Connection, owner_id: int) -> int:
    """Destroy the numbers of a user's cards, which are all cancelled, and return how many."""
    return connection.execute(
        update(Card)
        .where(Card.owner_id == owner_id, Card.number_index.is_not(None))
        .values(sealed_number=None, key_version=None, number_index=None)
    ).rowcount


async def get_owned(session: AsyncSession, owner_id: int, public_id: UUID) -> CardView | None:
    """Read one card, if it is this user's."""
    query = _views().where(Card.public_id == public_id, Card.owner_id == owner_id)
    row = (await session.execute(query)).mappings().first()
    return None if row is None else _view(row)


async def list_owned(
    session: AsyncSession, owner_id: int, *, after_id: int, offset: int, limit: int
) -> Sequence[CardView]:
    """Read a user's cards, oldest first, starting after row id `after_id`."""
    query = _views().where(Card.owner_id == owner_id, Card.id > after_id).order_by(Card.id).offset(offset).limit(limit)
    return [_view(row) for row in (await session.execute(query)).mappings()]


# --- keys --------------------------------------------------------------------------------------------------------


def key_versions(connection: Connection) -> list[int]:
    """List the versions of the keys that seal cards, oldest first, with one look-up in the index for each."""
    found: list[int] = []
    query = select(func.min(Card.key_version))
    version: int | None = connection.execute(query).scalar_one()
    while version is not None:
        found.append(version)
        version = connection.execute(query.where(Card.key_version > version)).scalar_one()
    return found


def count_older(connection: Connection, version: int) -> int:
    """Count the cards that are sealed with an older key than this version."""
    query = select(func.count()).select_from(Card).where(Card.key_version < version)
    return connection.execute(query).scalar_one()


def read_sealed(connection: Connection, version: int, limit: int) -> Sequence[RowMapping]:
    """Read up to `limit` cards that are sealed with a version: `id`, `public_id`, `sealed_number`, `number_index`."""
    query = (
        select(Card.id, Card.public_id, Card.sealed_number, Card.number_index)
        .where(Card.key_version == version)
        .order_by(Card.id)
        .limit(limit)
    )
    return connection.execute(query).mappings().all()


def write_sealed(connection: Connection, version: int, numbers: Iterable[tuple[int, bytes]]) -> None:
    """Write numbers that were resealed with a version's key: (row id, sealed number) each."""
    for row_id, sealed in numbers:
        connection.execute(update(Card).where(Card.id == row_id).values(sealed_number=sealed, key_version=version))


def _views() -> Select[*tuple[Any, ...]]:
    return select(
        Card.id,
        Card.public_id,
        Card.type,
        Card.status,
        Card.last4,
        Card.expiry,
        Account.public_id.label("account_public_id"),
        Account.status.label("account_status"),
    ).join(Account, Account.id == Card.account_id)


def _view(row: RowMapping) -> CardView:
    return CardView(
        id=row["public_id"],
        sequence=row["id"],
        account_id=row["account_public_id"],
        type=row["type"],
        own_status=row["status"],
        account_is_frozen=row["account_status"] is AccountStatus.FROZEN,
        last4=row["last4"],
        expiry=row["expiry"],
    )
