"""JSON bodies that may be long: read in small pieces, so that no body holds the event loop, whatever it says."""

import re
from codecs import getincrementaldecoder
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from api.codes import WireError
from api.http.strict_json import DECODER, DEEPEST_NESTING, check_depth, check_members
from core.domain.errors import Refusal

PIECE_BYTES = 16_384
LONGEST_ITEM = 8192
"""Characters of one item, and of all that is beside the items. A line of a batch needs less than three thousand."""

ITEMS_TOGETHER = 250
"""Items that are parsed and taken in one go, where so many are short enough for one piece."""

_SPACE = re.compile(r"[ \t\n\r]*")
_FOLLOWING = " \t\n\r,:}"
_AFTER_ITEM = re.compile(r"[ \t\n\r]*([],])[ \t\n\r]*")

Pause = Callable[[], Awaitable[None]]
Take = Callable[[list[Any], bool], None]
"""Takes some items; True says that they are the last ones."""


async def read_long(body: bytes, items_of: str, take: Take, pause: Pause) -> Any:
    """Parse a body as `parse_json` does, but for the items of one of its members, if that is a list.

    They are handed to `take`, some at a time, and the list is returned empty. `pause` is awaited between two pieces.
    Raises ValueError or RecursionError for what `parse_json` refuses, Refusal (`malformed_body`) for an item that is
    longer than `LONGEST_ITEM`, for more than that beside the items and for more than `MOST_MEMBERS` of one object, and
    what `take` raises.
    """
    reader = _Reader(body, pause)
    value = await reader.object(items_of, take) if await reader.peek() == "{" else await reader.value()
    if await reader.peek():
        raise ValueError("more than one value")
    check_depth(value, DEEPEST_NESTING)
    return value


class _Reader:
    """A body's text, of which one piece and what is left of the one before are in hand."""

    def __init__(self, body: bytes, pause: Pause) -> None:
        self._body = memoryview(body)
        self._decoder = getincrementaldecoder("utf-8")()
        self._pause = pause
        self._text = ""
        self._at = 0
        self._beside = 0
        """Characters beside the items, so far."""

    async def peek(self) -> str:
        """Pass over white space and show the next character; empty at the end."""
        while True:
            self._at = _end_of(_SPACE, self._text, self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._body:
                return ""
            await self._read_on()

    async def value(self) -> Any:
        """Parse the value that comes next."""
        await self.peek()
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except (ValueError, RecursionError):
                pass  # or it is cut off here
            else:
                if self._is_whole(end):
                    self._beside += end - self._at
                    self._at = end
                    _check_length(self._beside)
                    return value
            await self._lengthen()

    def _is_whole(self, end: int) -> bool:
        """Say whether a value that seems to end there does: a number may go on in the next piece."""
        following = self._text[end : end + 1]
        return following in _FOLLOWING if following else not self._body

    async def object(self, items_of: str, take: Take) -> dict[str, Any]:
        """Parse the object that comes next, whose items of one member are handed on."""
        members: dict[str, Any] = {}
        await self._pass("{")
        if await self.peek() == "}":
            await self._pass("}")
            return members
        while True:
            name = await self.value() if await self.peek() == '"' else None
            if name is None or name in members:
                raise ValueError("no name, or one that is given twice")
            await self._pass(":")
            if name == items_of and await self.peek() == "[":
                await self._items(take)
                members[name] = []
            else:
                members[name] = await self.value()
            check_members(len(members))
            if await self._pass(",}") == "}":
                return members

    async def _items(self, take: Take) -> None:
        await self._pass("[")
        if await self.peek() == "]":
            await self._pass("]")
            return
        is_last = False
        while not is_last:
            await self.peek()
            found, is_last = self._whole_items()
            if not found:
                await self._lengthen()
            check_depth(found, DEEPEST_NESTING - 1)
            for start in range(0, len(found), ITEMS_TOGETHER):
                end = start + ITEMS_TOGETHER
                take(found[start:end], is_last and end >= len(found))
                await self._pause()

    def _whole_items(self) -> tuple[list[Any], bool]:
        """Parse the items that are whole in what is in hand; say whether the list ends with them."""
        cut = self._text.rfind("},", self._at, self._at + LONGEST_ITEM)
        if cut > 0:
            with suppress(ValueError, RecursionError):  # within a text: it is no end of an item
                found: list[Any] = DECODER.decode(f"[{self._text[self._at : cut + 1]}]")
                self._at = cut + 2
                return found, False
        return self._one_by_one()

    def _one_by_one(self) -> tuple[list[Any], bool]:
        """Do so item by item, which takes half as long again."""
        found: list[Any] = []
        with suppress(ValueError, RecursionError):  # or the next one is cut off here
            while True:
                item, end = DECODER.raw_decode(self._text, self._at)
                mark = _AFTER_ITEM.match(self._text, end)
                if mark is None or end - self._at > LONGEST_ITEM:
                    break
                found.append(item)
                self._at = mark.end()
                if mark[1] == "]":
                    return found, True
        return found, False

    async def _pass(self, marks: str) -> str:
        found = await self.peek()
        if not found or found not in marks:
            raise ValueError(f"none of {marks}")
        self._at += 1
        return found

    async def _lengthen(self) -> None:
        """Read on, as what comes next is not whole; raises ValueError where that would not help."""
        _check_length(len(self._text) - self._at)
        if not self._body:
            raise ValueError("not well-formed")
        await self._read_on()

    async def _read_on(self) -> None:
        await self._pause()
        piece, self._body = self._body[:PIECE_BYTES], self._body[PIECE_BYTES:]
        self._text = self._text[self._at :] + self._decoder.decode(piece, final=not self._body)
        self._at = 0


def _check_length(characters: int) -> None:
    if characters > LONGEST_ITEM:
        raise Refusal(
            WireError.MALFORMED_BODY,
            detail=f"A part of the body is not well-formed JSON, or longer than {LONGEST_ITEM} characters.",
        )


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    assert found is not None, "it matches nothing at all as well"
    return found.end()
