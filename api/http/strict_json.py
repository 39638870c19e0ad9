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
"""Values of a JSON body, or fields and escapes of a form: far more than a call takes, and read within milliseconds."""


class StrictRequest(Request):
    """A request whose JSON body means one thing only."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        super().__init__(scope, receive)
        self._parsed: tuple[Any] | None = None

    async def json(self) -> Any:
        """Parse the body, once; raises Refusal for what is not exactly one JSON value (RFC 8259)."""
        if self._parsed is None:
            try:
                self._parsed = (parse_json(await self.body()),)
            except (ValueError, RecursionError):
                raise Refusal(WireError.MALFORMED_BODY) from None
        return self._parsed[0]


def parse_json(body: bytes) -> Any:
    """Parse JSON in UTF-8 and refuse, with ValueError or RecursionError, what parsers disagree about.

    That is NaN and Infinity, a key given twice, nesting beyond `DEEPEST_NESTING`, bytes that are no UTF-8. Raises
    Refusal (`malformed_body`) for more than `MOST_VALUES` values, or `MOST_MEMBERS` of one object.
    """
    check_values(body, b",[{")
    value = DECODER.decode(body.decode("utf-8"))
    check_depth(value, DEEPEST_NESTING)
    return value


def check_values(body: bytes, marks: bytes) -> None:
    """Refuse a body that may have too many values, by the marks that stand before each. Those in texts count too."""
    if sum(body.count(mark) for mark in marks) > MOST_VALUES:
        raise Refusal(WireError.MALFORMED_BODY, detail=f"The body has more than {MOST_VALUES} values.")


def check_depth(value: Any, deepest: int) -> None:
    """Raise ValueError for a value that is nested deeper.

    Goes down level by level: a list of thousands of flat objects takes no longer than looking at each value once.
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
"""Members of one object: each that a call does not know is an error, which takes long to make."""


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    check_members(len(pairs))
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def check_members(count: int) -> None:
    """Raise Refusal (`malformed_body`) for an object with so many members that no call takes it."""
    if count > MOST_MEMBERS:
        raise Refusal(WireError.MALFORMED_BODY, detail=f"An object has more than {MOST_MEMBERS} members.")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


DECODER = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
"""Parses JSON; raises ValueError for NaN and Infinity and a key that is given twice, Refusal for too many of them."""
