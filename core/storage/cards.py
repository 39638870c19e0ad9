"""Cards in the database. Card numbers never come here in clear: the layer above seals or digests them."""

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, bindparam, func, insert, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from core.domain.accounts import AccountStatus
from core.domain.cards import CardStatus, CardType, CardView
from core.storage.models import Account, Card
from core.storage.rows import columns
from core.storage.sql import Statement

_LIVE: ColumnElement[bool] = literal_column("status <> 'cancelled'")
"""Written as in the partial index `ix_cards_live`, which SQLite uses only for the same expression."""


_VIEWS = select(
    Card.public_id.label("id"),
    Card.id.label("sequence"),
    Account.public_id.label("account_id"),
    Card.type,
    Card.status.label("own_status"),
    (Account.status == AccountStatus.FROZEN).label("account_is_frozen"),
    Card.last4,
    Card.expiry,
).join(Account, Account.id == Card.account_id)
_ONE_OWNED = _VIEWS.where(Card.public_id == bindparam("card"), Card.owner_id == bindparam("owner"))
_OWNED = (
    _VIEWS.where(Card.owner_id == bindparam("owner"), Card.id > bindparam("after"))
    .order_by(Card.id)
    .offset(bindparam("offset"))
    .limit(bindparam("limit"))
)


class NewCard(NamedTuple):
    """A card to store. Its number is sealed, and found again by a blind index."""

    public_id: UUID
    owner_id: int
    account_id: int
    """The row id of its account."""
    type: CardType
    last4: str
    expiry: str
    """`YYYY-MM`."""
    sealed_number: bytes
    key_version: int
    number_index: bytes
    created_at: datetime


class SealedCard(NamedTuple):
    """A card's sealed number."""

    id: int
    """The card's row id."""
    public_id: UUID
    sealed_number: bytes
    number_index: bytes


_SEALED = (
    select(*columns(Card, SealedCard))
    .where(Card.key_version == bindparam("version"))
    .order_by(Card.id)
    .limit(bindparam("limit"))
)


def add(connection: Connection, card: NewCard) -> int:
    """Insert an active card and return its row id."""
    result = connection.execute(insert(Card).values(status=CardStatus.ACTIVE, **card._asdict()))
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


def were_issued(connection: Connection, owner_id: int, count: int) -> bool:
    """Return whether a user was ever issued `count` cards or more. At most that many entries of an index are read."""
    query = select(Card.id).where(Card.owner_id == owner_id).order_by(Card.id).offset(count - 1).limit(1)
    return connection.execute(query).first() is not None


def read_owned(connection: Connection, owner_id: int, public_id: UUID) -> CardView | None:
    """Read one card inside a unit of work, if it is this user's."""
    row = connection.execute(_ONE_OWNED, {"card": public_id, "owner": owner_id}).mappings().first()
    return CardView(**row) if row else None


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


_COUNT_LIVE_OF = Statement(
    "SELECT count(*) FROM cards JOIN accounts ON accounts.id = cards.account_id "
    "WHERE accounts.owner_id = :owner AND cards.status <> 'cancelled'"
)


def count_live_of(connection: Connection, owner_id: int) -> int:
    """Count the cards of all accounts of a user that are not cancelled."""
    count: int = _COUNT_LIVE_OF.run(connection, owner=owner_id).scalar_one()
    return count


def shred_all_of(connection: Connection, owner_id: int) -> int:
    """Destroy the numbers of a user's cards, which are all cancelled, and return how many."""
    return connection.execute(
        update(Card)
        .where(Card.owner_id == owner_id, Card.number_index.is_not(None))
        .values(sealed_number=None, key_version=None, number_index=None)
    ).rowcount


async def get_owned(session: AsyncSession, owner_id: int, public_id: UUID) -> CardView | None:
    """Read one card, if it is this user's."""
    row = (await session.execute(_ONE_OWNED, {"card": public_id, "owner": owner_id})).mappings().first()
    return CardView(**row) if row else None


async def list_owned(session: AsyncSession, owner_id: int, *, after_id: int, offset: int, limit: int) -> list[CardView]:
    """Read a user's cards, oldest first, starting after row id `after_id`."""
    page = {"owner": owner_id, "after": after_id, "offset": offset, "limit": limit}
    return [CardView(**row) for row in (await session.execute(_OWNED, page)).mappings()]


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


def read_sealed(connection: Connection, version: int, limit: int) -> list[SealedCard]:
    """Read up to `limit` cards that are sealed with the key of a version, oldest first."""
    return [SealedCard(*row) for row in connection.execute(_SEALED, {"version": version, "limit": limit})]


def write_sealed(connection: Connection, version: int, numbers: Iterable[tuple[int, bytes]]) -> None:
    """Write numbers that were resealed with a version's key: (row id, sealed number) each."""
    for row_id, sealed in numbers:
        connection.execute(update(Card).where(Card.id == row_id).values(sealed_number=sealed, key_version=version))
