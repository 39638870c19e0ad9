"""Cards: sealed numbers, and the parts of them that are shown."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, LargeBinary, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from core.domain.cards import CardStatus, CardType
from core.storage.models.base import Base, Moment, PublicId, Word, one_of, trigger


class Card(Base):
    """A card. `status` is the card's own status; the effect of its account's status is computed when it is read.

    `sealed_number` is nonce, ciphertext and tag under the key of `key_version`. `number_index` is a keyed digest of
    the number. All three are deleted when the owner is erased. The CVC is not stored in any form. `owner_id` is copied
    from the account, so that listing a user's cards needs one index.
    """

    __tablename__ = "cards"
    __table_args__ = (
        one_of("type", CardType),
        one_of("status", CardStatus),
        CheckConstraint("last4 GLOB '[0-9][0-9][0-9][0-9]'", name="last4"),
        CheckConstraint("expiry GLOB '[0-9][0-9][0-9][0-9]-[01][0-9]'", name="expiry"),
        CheckConstraint("length(sealed_number) = 44", name="sealed_number"),
        CheckConstraint("length(number_index) = 32", name="number_index"),
        CheckConstraint("key_version >= 1", name="key_version"),
        CheckConstraint("(status = 'cancelled') = (cancelled_at IS NOT NULL)", name="cancelled"),
        CheckConstraint(
            "(sealed_number IS NULL) = (key_version IS NULL) AND (sealed_number IS NULL) = (number_index IS NULL) "
            "AND (sealed_number IS NOT NULL OR status = 'cancelled')",
            name="number",
        ),
        Index("ix_cards_owner_id_id", "owner_id", "id"),
        Index("ix_cards_key_version", "key_version"),
        # The index is partial, so that counting stays cheap for a user who issues and cancels cards again and again.
        Index("ix_cards_live", "account_id", sqlite_where=text("status <> 'cancelled'")),
        {"sqlite_strict": True},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    public_id: Mapped[UUID] = mapped_column(PublicId, unique=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    type: Mapped[CardType] = mapped_column(Word(CardType))
    status: Mapped[CardStatus] = mapped_column(Word(CardStatus))
    last4: Mapped[str] = mapped_column(Text)
    expiry: Mapped[str] = mapped_column(Text)
    sealed_number: Mapped[bytes | None] = mapped_column(LargeBinary)
    key_version: Mapped[int | None] = mapped_column(Integer)
    number_index: Mapped[bytes | None] = mapped_column(LargeBinary, unique=True)
    created_at: Mapped[datetime] = mapped_column(Moment)
    cancelled_at: Mapped[datetime | None] = mapped_column(Moment)


trigger(
    Card.__table__,
    """CREATE TRIGGER cards_end_once BEFORE UPDATE OF status, cancelled_at ON cards WHEN OLD.status = 'cancelled'
    BEGIN SELECT RAISE(ABORT, 'a cancelled card stays cancelled'); END""",
)
trigger(
    Card.__table__,
    """CREATE TRIGGER cards_keep_terms BEFORE UPDATE OF id, public_id, owner_id, account_id, type, last4, expiry,
    created_at ON cards
    BEGIN SELECT RAISE(ABORT, 'the terms of a card never change'); END""",
)
trigger(
    Card.__table__,
    """CREATE TRIGGER cards_keep_their_number BEFORE UPDATE OF number_index ON cards
    WHEN NEW.number_index IS NOT NULL AND NEW.number_index IS NOT OLD.number_index
    BEGIN SELECT RAISE(ABORT, 'a card keeps its number, or loses it for good'); END""",
)
trigger(
    Card.__table__,
    """CREATE TRIGGER cards_are_sealed_forward BEFORE UPDATE OF sealed_number, key_version ON cards
    WHEN NEW.key_version <= OLD.key_version OR (OLD.key_version IS NULL AND NEW.key_version IS NOT NULL)
    BEGIN SELECT RAISE(ABORT, 'a card is sealed anew under a newer key only'); END""",
)
trigger(
    Card.__table__,
    """CREATE TRIGGER cards_stay BEFORE DELETE ON cards
    BEGIN SELECT RAISE(ABORT, 'a card is never deleted'); END""",
)
