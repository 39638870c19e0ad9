"""JSON request bodies with exactly one meaning."""

import json
from collections.abc import Iterable
from typing import Any

from fastapi import Request
from starlette.types import Receive, Scope

from api.codes import WireError
from core.domain.errors import Refusal

DEEPEST_NESTING = 64

MOST_VALUES = 2048
"""Maximum values of a JSON body, or fields and escapes of a form: far more than any call has, and read in
milliseconds."""


class StrictRequest(Request):
    """A request whose JSON body has only one meaning."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        super().__init__(scope, receive)
        self._parsed: tuple[Any] | None = None

    async def json(self) -> Any:
        """Parse the body, once. Raises Refusal unless it is exactly one JSON value (RFC 8259)."""
        if self._parsed is None:
            try:
                self._parsed = (parse_json(await self.body()),)
            except (ValueError, RecursionError):
                raise Refusal(WireError.MALFORMED_BODY) from None
        return self._parsed[0]


def parse_json(body: bytes) -> Any:
    """Parse JSON in UTF-8. Raises ValueError or RecursionError for JSON that parsers read differently.

    This is NaN and Infinity, repeated keys, nesting deeper than `DEEPEST_NESTING`, and invalid UTF-8. Raises Refusal
    (`malformed_body`) for more than `MOST_VALUES` values, or more than `MOST_MEMBERS` members of one object.
    """
    check_values(body, b",[{")
    value = DECODER.decode(body.decode("utf-8"))
    check_depth(value, DEEPEST_NESTING)
    return value


def check_values(body: bytes, marks: bytes) -> None:
    """Refuse a body that may have too many values. It counts the marks before values, those inside texts too."""
    if sum(body.count(mark) for mark in marks) > MOST_VALUES:
        raise Refusal(WireError.MALFORMED_BODY, detail=f"The body has more than {MOST_VALUES} values.")


def check_depth(value: Any, deepest: int) -> None:
    """Raise ValueError for a value that is nested deeper.

    It checks level by level, so each value is read only once, even in a list of thousands of flat objects.
    """
    level = [value]
    for _ in range(deepest):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _members(outer)]
        if not level:
            return
    if any(isinstance(value, dict | list) for value in level):
        raise ValueError("nested too deep")


def _members(container: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container


MOST_MEMBERS = 100
"""Maximum members of one object: each unknown member is an error, which takes long to make."""


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    check_members(len(pairs))
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def check_members(count: int) -> None:
    """Raise Refusal (`malformed_body`) for an object with more members than any call has."""
    if count > MOST_MEMBERS:
        raise Refusal(WireError.MALFORMED_BODY, detail=f"An object has more than {MOST_MEMBERS} members.")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


DECODER = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
"""Parses JSON. Raises ValueError for NaN, Infinity and repeated keys, and Refusal for too many keys."""
