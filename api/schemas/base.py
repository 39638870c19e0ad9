"""What all schemas share."""

import re
from typing import Annotated, Self
from unicodedata import category

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from core.domain.money import EXPONENTS, MAX_AMOUNT, decimal_string

LARGEST_LIMIT = 1000
DEFAULT_LIMIT = 100
LARGEST_OFFSET = 10_000


class In(BaseModel):
    """A body or a query: what it does not name is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Out(BaseModel):
    """An answer."""

    model_config = ConfigDict(frozen=True)


def _printable(text: str) -> str:
    if any(category(character) in ("Cc", "Cs") for character in text):
        raise ValueError("must not hold control characters")
    return text


Text = Annotated[str, AfterValidator(_printable)]
"""Text without control characters (NUL, line feeds …) and lone surrogates."""


def _currency(code: str) -> str:
    if code not in EXPONENTS:
        raise ValueError("must be an ISO 4217 code of a currency that has an exponent")
    return code


Currency = Annotated[str, AfterValidator(_currency), Field(examples=["USD"], min_length=3, max_length=3)]

Amount = Annotated[
    int, Field(strict=True, ge=1, le=MAX_AMOUNT, description="Minor units, as a JSON integer.", examples=[1050])
]


def decimals(amount: int, currency: str) -> str:
    """Write an amount as the decimal string that stands beside it in answers."""
    return decimal_string(amount, currency)


def _digits(value: object) -> object:
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise ValueError("must be a whole number, in digits")
    return value


Digits = BeforeValidator(_digits)
"""A number in a query: digits and nothing else, where lax parsing would also take `5.0`, `+5` and `1_0`."""


def _rfc_3339(value: object) -> object:
    if isinstance(value, str) and not _DATE_AND_TIME.match(value):
        raise ValueError("must be a date and a time as RFC 3339 has them, with their offset from UTC")
    return value


_DATE_AND_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]")
Moment = Annotated[AwareDatetime, BeforeValidator(_rfc_3339)]
"""A time in a query; a bare number, which lax parsing would take for seconds since 1970, is none."""


class PageQuery(In):
    """Which part of a list: `limit` items, from `offset` on or from where `cursor` points."""

    limit: Annotated[int, Digits, Field(ge=1, le=LARGEST_LIMIT)] = DEFAULT_LIMIT
    offset: Annotated[int | None, Digits, Field(ge=0, le=LARGEST_OFFSET, description="Not together with `cursor`.")] = (
        None
    )
    cursor: Annotated[
        str | None, Field(min_length=1, max_length=65_536, description="`next_cursor` of the page before.")
    ] = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.offset is not None and self.cursor is not None:
            raise ValueError("offset and cursor cannot go together")
        return self


class Page[Item](Out):
    """A part of a list. `next_cursor` is null on the last page."""

    items: list[Item]
    limit: int
    offset: int
    next_cursor: str | None
