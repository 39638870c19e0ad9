"""Issuing and reading cards, and the actions of their owners."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import now_us, to_datetime
from core.domain.accounts import AccountError, AccountStatus, AccountView
from core.domain.audit import Action, Author
from core.domain.cards import (
    LAST_DIGITS,
    SERIAL_DIGITS,
    TRANSITIONS,
    CardError,
    CardStatus,
    CardType,
    CardView,
    card_number,
    expiry_after,
)
from core.domain.errors import Part, Refusal
from core.ids import new_id
from core.security.card_vault import CardVault
from core.services.audit import write_down
from core.storage import accounts, cards
from core.storage.cards import NewCard


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCard:
    """A card when it is issued, the only time when its number and CVC are known in clear. Its `repr` omits them."""

    view: CardView
    number: str = field(repr=False)
    cvc: str = field(repr=False)


def issue(
    connection: Connection,
    vault: CardVault,
    author: Author,
    *,
    account_id: UUID,
    kind: CardType,
    most: int,
    most_ever: int,
    years: int,
) -> IssuedCard:
    """Issue a card for an account of the author, valid for `years`, and record that it was revealed.

    Raises Refusal: `account_not_found` for another user's account, `account_frozen`, `account_closed`,
    `too_many_cards` if the account has `most` cards, not counting cancelled ones, and `too_many_cards_issued` if the
    author was issued `most_ever` cards, counting cancelled ones.
    """
    assert author.user_id is not None, "the author is signed in"
    account = _account_for_a_card(connection, author.user_id, account_id)
    _require_room(connection, account.id, author.user_id, most=most, most_ever=most_ever)
    now = to_datetime(now_us())
    card_id, number, expiry = new_id(), _free_number(connection, vault), expiry_after(now.date(), years)
    last4 = number[-LAST_DIGITS:]
    keys = vault.keys()  # read in this unit of work: a rotation may have added a key since the last one
    card = NewCard(
        public_id=card_id,
        owner_id=author.user_id,
        account_id=account.id,
        type=kind,
        last4=last4,
        expiry=expiry,
        sealed_number=keys.seal(number, card_id),
        key_version=keys.newest,
        number_index=vault.index(number),
        created_at=now,
    )
    sequence = cards.add(connection, card)
    write_down(connection, author, Action.CARD_REVEALED, card_id, account_id=str(account_id), last4=last4)
    view = CardView(
        id=card_id,
        sequence=sequence,
        account_id=account_id,
        type=kind,
        own_status=CardStatus.ACTIVE,
        account_is_frozen=False,
        last4=last4,
        expiry=expiry,
    )
    return IssuedCard(view=view, number=number, cvc=vault.cvc(number, expiry))


def _require_room(connection: Connection, account_id: int, user_id: int, *, most: int, most_ever: int) -> None:
    if cards.count_live(connection, account_id) >= most:
        raise Refusal(CardError.TOO_MANY)
    if cards.were_issued(connection, user_id, most_ever):
        raise Refusal(CardError.TOO_MANY_EVER)


def freeze(connection: Connection, *, user_id: int, card_id: UUID) -> None:
    """Freeze a user's card; a frozen card stays frozen. Raises Refusal: `card_not_found`, `card_cancelled`."""
    _move(connection, _owned(connection, user_id, card_id), CardStatus.FROZEN)


def unfreeze(connection: Connection, *, user_id: int, card_id: UUID) -> None:
    """Make a user's frozen card active again; an active card stays active.

    Raises Refusal: `card_not_found`, `card_cancelled`, and `account_frozen` while its account is frozen.
    """
    card = _owned(connection, user_id, card_id)
    if card.own_status is not CardStatus.CANCELLED and card.account_is_frozen:
        raise Refusal(AccountError.FROZEN)
    _move(connection, card, CardStatus.ACTIVE)


def cancel(connection: Connection, *, user_id: int, card_id: UUID) -> None:
    """Cancel a user's card permanently; a cancelled card stays cancelled. Raises Refusal (`card_not_found`)."""
    _move(connection, _owned(connection, user_id, card_id), CardStatus.CANCELLED)


async def get(session: AsyncSession, *, user_id: int, card_id: UUID) -> CardView:
    """Read a user's card; raises Refusal (`card_not_found`) if it is missing or belongs to another user."""
    card = await cards.get_owned(session, user_id, card_id)
    if card is None:
        raise Refusal(CardError.NOT_FOUND, about=Part.CARD)
    return card


async def list_for_user(
    session: AsyncSession, *, user_id: int, after_id: int, offset: int, limit: int
) -> Sequence[CardView]:
    """List a user's cards, oldest first, starting after row id `after_id`."""
    return await cards.list_owned(session, user_id, after_id=after_id, offset=offset, limit=limit)


def _account_for_a_card(connection: Connection, user_id: int, account_id: UUID) -> AccountView:
    account = accounts.read_owned(connection, user_id, account_id)
    if account is None:
        raise Refusal(AccountError.NOT_FOUND, about=Part.ACCOUNT)
    if account.status is AccountStatus.FROZEN:
        raise Refusal(AccountError.FROZEN)
    if account.status is AccountStatus.CLOSED:
        raise Refusal(AccountError.CLOSED)
    return account


def _owned(connection: Connection, user_id: int, card_id: UUID) -> CardView:
    card = cards.read_owned(connection, user_id, card_id)
    if card is None:
        raise Refusal(CardError.NOT_FOUND, about=Part.CARD)
    return card


def _move(connection: Connection, card: CardView, status: CardStatus) -> None:
    if card.own_status is status:
        return
    if status not in TRANSITIONS[card.own_status]:
        raise Refusal(CardError.CANCELLED)
    cancelled_at = to_datetime(now_us()) if status is CardStatus.CANCELLED else None
    cards.set_status(connection, card.sequence, status, cancelled_at)


def _free_number(connection: Connection, vault: CardVault) -> str:
    """Draw random card numbers until one is free. Random numbers do not reveal which cards exist."""
    while True:
        number = card_number(secrets.randbelow(10**SERIAL_DIGITS))
        if not cards.index_is_taken(connection, vault.index(number)):
            return number
