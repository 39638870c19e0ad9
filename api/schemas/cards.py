"""Cards in requests and answers."""

from datetime import date
from typing import Annotated, Self
from uuid import UUID

from pydantic import Field

from api.schemas import fields
from api.schemas.base import In, Out
from core.domain.cards import CardStatus, CardType, CardView, card_number, expires_on, masked_number, shown_expiry
from core.services.cards.issuing import IssuedCard

_EXAMPLE = card_number(123_456_789)


Type = Annotated[
    CardType,
    Field(description="Type printed on the card. The two types do not differ otherwise.", examples=["debit"]),
]


class NewCard(In):
    """A request to issue a card."""

    account_id: UUID = Field(
        description="Id of the account that the card is for: one of the caller's accounts.", examples=[fields.ACCOUNT]
    )
    type: Type


class CardOut(Out):
    """A card without the data needed to pay with it."""

    id: UUID = Field(description="Id of the card.", examples=[fields.CARD])
    account_id: fields.AccountId
    type: Type
    expiry: str = Field(description="`MM/YY`: valid until the last day of that month.", examples=["11/30"])
    expires_on: date = Field(description="The last day on which the card is valid.", examples=["2030-11-30"])
    last4: str = Field(description="Last four digits of the card number.", examples=[_EXAMPLE[-4:]])
    masked_number: str = Field(
        description="Card number of which only the first six and the last four digits are shown.",
        examples=[masked_number(_EXAMPLE[-4:])],
    )
    status: CardStatus = Field(
        description="`active`: the card can be used. `frozen`: it cannot be used until it is unfrozen; also while its "
        "account is frozen. `cancelled`: it can never be used again.",
        examples=["active"],
    )

    @classmethod
    def of(cls, card: CardView) -> Self:
        """Show a card."""
        return cls(
            id=card.id,
            account_id=card.account_id,
            type=card.type,
            expiry=shown_expiry(card.expiry),
            expires_on=expires_on(card.expiry),
            last4=card.last4,
            masked_number=masked_number(card.last4),
            status=card.status,
        )


class IssuedCardOut(CardOut):
    """A card with its number and CVC, which are shown only once: when it is issued."""

    card_number: str = Field(
        repr=False, description="Card number, 16 digits. Only this answer shows it.", examples=[_EXAMPLE]
    )
    cvc: str = Field(
        repr=False,
        description="Card verification code, 3 digits. Only this answer shows it; it is not stored.",
        examples=["042"],
    )

    @classmethod
    def revealed(cls, issued: IssuedCard) -> Self:
        """Show a card that was just issued."""
        return cls(**CardOut.of(issued.view).model_dump(), card_number=issued.number, cvc=issued.cvc)
