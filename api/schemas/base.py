"""Types and base classes that all schemas share."""

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

from core.domain.errors import ErrorCode
from core.domain.money import EXPONENTS, MAX_AMOUNT, decimal_string
from core.domain.texts import without_directions

LARGEST_LIMIT = 1000
DEFAULT_LIMIT = 100
LARGEST_OFFSET = 10_000


class In(BaseModel):
    """A body or a query. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Out(BaseModel):
    """An answer."""

    model_config = ConfigDict(frozen=True)


_PRINTABLE = r"^[^\u0000-\u001f\u007f-\u009f]*$"
"""The text that `_printable` accepts, for the OpenAPI document.

`_printable` also refuses lone surrogates, but they are not valid text anyway.
"""


_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def _printable(text: str) -> str:
    if _UNPRINTABLE.search(text):
        raise ValueError("must not contain control characters")
    return text


Text = Annotated[str, AfterValidator(_printable), Field(json_schema_extra={"pattern": _PRINTABLE})]
"""Text without control characters (NUL, line feeds …) and without lone surrogates."""

Shown = Annotated[Text, AfterValidator(without_directions)]
"""Text that others read: names and descriptions. Bidirectional controls are removed before its length is checked."""


CURRENCIES = sorted(EXPONENTS)


def _currency(code: str) -> str:
    if code not in EXPONENTS:
        raise ValueError("must be an ISO 4217 code of a currency that has an exponent")
    return code


Currency = Annotated[
    str,
    AfterValidator(_currency),
    Field(min_length=3, max_length=3),
    WithJsonSchema({"type": "string", "enum": CURRENCIES, "examples": ["USD"]}),  # listed once: see api/openapi.py
]

CODES = ["any error code"]

Code = Annotated[ErrorCode, WithJsonSchema({"type": "string", "enum": CODES})]
"""An error code. The document lists the codes of all capabilities once (api/openapi.py)."""

Amount = Annotated[int, Field(strict=True, ge=1, le=MAX_AMOUNT, examples=[1050])]


def decimals(amount: int, currency: str) -> str:
    """Format an amount (minor units) as the decimal string that answers show next to it."""
    return decimal_string(amount, currency)


def _digits(value: object) -> object:
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise ValueError("must be a whole number written in digits")
    return value


Digits = BeforeValidator(_digits)
"""A number in a query: digits only. Lax parsing would also accept `5.0`, `+5` and `1_0`.

It comes after the number's bounds in an annotation; otherwise the document would not show the bounds.
"""

Offset = Annotated[int, Field(ge=0, le=LARGEST_OFFSET), Digits]


LONGEST_CURSOR = 200
"""A cursor holds one row id and a signature: 70 characters at most."""

EXAMPLE_CURSOR = "WyJhY2NvdW50cyIsMTAwXQ.q0f3vT1m"

Cursor = Annotated[str, Field(min_length=1, max_length=LONGEST_CURSOR, pattern=r"^[A-Za-z0-9._-]+$")]


def _rfc_3339(value: object) -> object:
    if isinstance(value, str) and not _DATE_AND_TIME.match(value):
        raise ValueError("must be an RFC 3339 date and time with an offset from UTC")
    return value


_DATE_AND_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]")
Moment = Annotated[AwareDatetime, BeforeValidator(_rfc_3339)]
"""A time in a query. A bare number is invalid; lax parsing would read it as seconds since 1970."""

CreatedFrom = Annotated[
    Moment | None,
    Field(
        description="Only objects created at this time or later: RFC 3339, with an offset from UTC.",
        examples=["2026-11-01T00:00:00Z"],
    ),
]
CreatedTo = Annotated[
    Moment | None,
    Field(
        description="Only objects created before this time: RFC 3339, with an offset from UTC.",
        examples=["2026-12-01T00:00:00Z"],
    ),
]


Limit = Annotated[
    int,
    Field(
        ge=1,
        le=LARGEST_LIMIT,
        description="Largest number of objects that the page may have.",
        examples=[DEFAULT_LIMIT],
    ),
    Digits,
]

NextPage = Annotated[
    Cursor | None,
    Field(
        description="`next_cursor` of the previous page: the page then starts where that one ended, also when objects "
        "were added since. Without it, the list starts at its beginning. A cursor is valid only with the same filters.",
        examples=[EXAMPLE_CURSOR],
    ),
]

NextCursor = Annotated[
    str | None,
    Field(
        description="Place where the next page starts: send it as `cursor`. Null on the last page.",
        examples=[EXAMPLE_CURSOR],
    ),
]


class PageQuery(In):
    """A page of a list: `limit` items, starting at `offset` or at `cursor`."""

    limit: Limit = DEFAULT_LIMIT
    offset: Annotated[
        Offset | None,
        Field(
            description="Number of objects to skip from the start of the list. Cannot be combined with `cursor`.",
            examples=[0],
        ),
    ] = None
    cursor: NextPage = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.offset is not None and self.cursor is not None:
            raise ValueError("offset and cursor cannot be combined")
        return self


class Page[Item](Out):
    """A page of a list."""

    model_config = ConfigDict(json_schema_extra={"description": "A page of a list."})

    items: list[Item] = Field(description="The objects of this page, in the order of the list.")
    limit: int = Field(description="`limit` of the request, or its default.", examples=[DEFAULT_LIMIT])
    offset: int = Field(description="`offset` of the request, or 0.", examples=[0])
    next_cursor: NextCursor
