"""Messages of validation errors that tell the client how to fix the request. They never repeat a value sent."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from core.domain.money import EXPONENTS, decimal_string

EXAMPLE_AMOUNT = 1250
"""Minor units. The example is always the same amount, and never the amount that was sent."""

_QUOTING = re.compile(r"(Input should be a valid UUID|value is not a valid email address)\b.*", re.DOTALL)
"""Library messages that quote characters of the value that was sent."""

_LENGTHS = {
    "too_long": ("at most", "max_length"),
    "too_short": ("at least", "min_length"),
    "string_too_long": ("at most", "max_length"),
    "string_too_short": ("at least", "min_length"),
}
"""Errors about the length of a text. The library says "items" for a text that a function has checked."""


def message_of(item: Mapping[str, Any], given: Any) -> str:
    """Return the message of one of pydantic's errors in `given`, the JSON value that its location starts from."""
    kind, path = item.get("type"), item["loc"]
    if kind == "int_type" and path and path[-1] == "amount":
        return _about_minor_units(_at(given, [*path[:-1], "currency"]))
    if kind in _LENGTHS and isinstance(value := _at(given, path), str):
        limit, bound = _LENGTHS[kind]
        return f"must have {limit} {item['ctx'][bound]} characters, {len(value)} were sent"
    return _QUOTING.sub(r"\1", str(item["msg"]).removeprefix("Value error, "))


def _about_minor_units(currency: object) -> str:
    known = currency if isinstance(currency, str) and currency in EXPONENTS else "EUR"
    example = f"{EXAMPLE_AMOUNT} for {decimal_string(EXAMPLE_AMOUNT, known)} {known}"
    return f"Amounts are integers in minor units: {example}"


def _at(value: Any, path: Sequence[str | int]) -> Any:
    """Follow a path of names and indexes into a JSON value. Returns None if the path leads nowhere."""
    for step in path:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value
