"""What all schemas share."""

import re
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

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


_PRINTABLE = r"^[^\u0000-\u001f\u007f-\u009f]*$"
"""What `_printable` lets through, for the document. Lone surrogates, which it refuses, are no text to begin with."""


_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def _printable(text: str) -> str:
    if _UNPRINTABLE.search(text):
        raise ValueError("must not hold control characters")
    return text


Text = Annotated[str, AfterValidator(_printable), Field(json_schema_extra={"pattern": _PRINTABLE})]
"""Text without control characters (NUL, line feeds …) and lone surrogates."""


CURRENCIES = sorted(EXPONENTS)


def _currency(code: str) -> str:
    if code not in EXPONENTS:
        raise ValueError("must be an ISO 4217 code of a currency that has an exponent")
    return code


Currency = Annotated[
    str,
    AfterValidator(_currency),
    Field(min_length=3, max_length=3),
    WithJsonSchema({"type": "string", "enum": CURRENCIES}),  # the document names it once (api/openapi.py)
]

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
"""A number in a query: digits and nothing else, where lax parsing would also take `5.0`, `+5` and `1_0`.

It stands behind the number's bounds, which the document would not show otherwise.
"""

Offset = Annotated[int, Field(ge=0, le=LARGEST_OFFSET), Digits]


LONGEST_CURSOR = 60_000
"""With the path and the other parameters it stays below 65,536 bytes: the HTTP parser takes no longer URL."""

Cursor = Annotated[str, Field(min_length=1, max_length=LONGEST_CURSOR, pattern=r"^[A-Za-z0-9._-]+$")]


def _rfc_3339(value: object) -> object:
    if isinstance(value, str) and not _DATE_AND_TIME.match(value):
        raise ValueError("must be a date and a time as RFC 3339 has them, with their offset from UTC")
    return value


_DATE_AND_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]")
Moment = Annotated[AwareDatetime, BeforeValidator(_rfc_3339)]
"""A time in a query; a bare number, which lax parsing would take for seconds since 1970, is none."""


class PageQuery(In):
    """Which part of a list: `limit` items, from `offset` on or from where `cursor` points."""

    limit: Annotated[int, Field(ge=1, le=LARGEST_LIMIT), Digits] = DEFAULT_LIMIT
    offset: Annotated[Offset | None, Field(description="Not together with `cursor`.")] = None
    cursor: Annotated[Cursor | None, Field(description="`next_cursor` of the page before.")] = None

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
