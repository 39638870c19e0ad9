"""Fields that several schemas share: each type with its description and an example.

A schema whose field means more adds its own description or example, which takes precedence.
"""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Path
from pydantic import Field

from api.schemas.base import Amount

EXAMPLE_ID = "01932f4e-8c1a-7b3d-9e5f-2a6b8c0d4e1f"
USER = "01a20be2-a534-7073-86c1-63610b6d250c"
ACCOUNT = "01a20be2-a941-75c0-b1ff-2d5ea1c6165c"
OTHER_ACCOUNT = "01a20be2-a9aa-7388-a9c0-c425b4f5af2f"
TRANSFER = "01a20be2-b791-7105-9dfa-91e03d86fd7c"
CARD = "01a20be3-0c1e-7a54-8b0f-6d1f0a7c2e93"
STATEMENT = "01a2a7c4-51f0-7d28-b3a6-90c4e8d71f05"
DOCUMENT = "01a2a7d9-0b52-7e61-9c47-5f0d3b8a6e24"
LETTER = "01a2b1d0-7f3c-7c11-a0de-4b8f25c96a17"
BATCH = "01a20be4-6e02-7b9d-8d35-c7f1e2a40b68"
MOMENT = "2026-11-24T04:48:57.233208Z"
LATER = "2026-11-24T04:48:57.291467Z"

# --- ids ---

AccountId = Annotated[UUID, Field(description="Id of the account.", examples=[ACCOUNT])]
PayerId = Annotated[
    UUID,
    Field(
        description="Id of the account that pays. For a deposit, the currency's external account.", examples=[ACCOUNT]
    ),
]
PayeeId = Annotated[
    UUID,
    Field(
        description="Id of the account that receives the money. For a withdrawal, the currency's external account.",
        examples=[OTHER_ACCOUNT],
    ),
]
TransferId = Annotated[UUID, Field(description="Id of the transfer.", examples=[TRANSFER])]
RequestId = Annotated[
    str,
    Field(
        description="Id of the request, also in the `X-Request-ID` header and in the service's logs.",
        examples=[EXAMPLE_ID],
    ),
]

# --- money ---

Currency = Annotated[str, Field(description="ISO 4217 code of the currency of all amounts.", examples=["USD"])]
Minor = Annotated[int, Field(examples=[1050])]
"""An amount in minor units. Each field describes its own meaning."""
Decimal = Annotated[
    str,
    Field(
        description="The amount of the field without `_decimal`, in major units with all decimals of the currency. For "
        "display only: calculate with the integer.",
        examples=["10.50"],
    ),
]
TransferAmount = Annotated[Amount, Field(description="Amount to move, in minor units: 1050 is 10.50 USD.")]
AccountNumber = Annotated[
    str,
    Field(
        description="Account number, 22 characters. It looks like an IBAN and has its check digits, but belongs to no "
        "country.",
        examples=["XG46GIRO00000000000042"],
    ),
]

Description = Annotated[
    str | None,
    Field(description="Text that the submitter of the transfer wrote. Null if there is no text.", examples=["rent"]),
]

# --- times ---

CreatedAt = Annotated[datetime, Field(description="Time of creation: RFC 3339, in UTC.", examples=[MOMENT])]
StartsAt = Annotated[
    datetime, Field(description="First instant of the month: RFC 3339, in UTC.", examples=["2026-10-01T04:00:00Z"])
]
EndsAt = Annotated[
    datetime,
    Field(
        description="First instant after the month: RFC 3339, in UTC. Transactions at this instant are not included.",
        examples=["2026-11-01T04:00:00Z"],
    ),
]
Period = Annotated[str, Field(description="Calendar month in the bank's time zone, `YYYY-MM`.", examples=["2026-10"])]
TimeZone = Annotated[
    str,
    Field(
        description="IANA name of the time zone that defines the start and the end of the month.",
        examples=["America/New_York"],
    ),
]

# --- parameters in paths ---

AccountInPath = Annotated[UUID, Path(description="Id of the account.", examples=[ACCOUNT])]
CardInPath = Annotated[UUID, Path(description="Id of the card.", examples=[CARD])]
LetterInPath = Annotated[UUID, Path(description="Id of the parked message.", examples=[LETTER])]
DocumentInPath = Annotated[UUID, Path(description="Id of the document.", examples=[DOCUMENT])]
StatementInPath = Annotated[UUID, Path(description="Id of the statement.", examples=[STATEMENT])]
TransferInPath = Annotated[UUID, Path(description="Id of the transfer.", examples=[TRANSFER])]
UserInPath = Annotated[UUID, Path(description="Id of the user.", examples=[USER])]
