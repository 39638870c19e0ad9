"""Long JSON bodies, read in small pieces, so that no body blocks the event loop, whatever its content."""

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
"""Maximum characters of one item, and of everything outside the items. A line of a batch needs less than three
thousand."""

ITEMS_TOGETHER = 250
"""Maximum number of items that are parsed and taken together, if that many fit into one piece."""

_SPACE = re.compile(r"[ \t\n\r]*")
_FOLLOWING = " \t\n\r,:}"
_AFTER_ITEM = re.compile(r"[ \t\n\r]*([],])[ \t\n\r]*")

Pause = Callable[[], Awaitable[None]]
Take = Callable[[list[Any], bool], None]
"""Takes some items. True means that they are the last ones."""


async def read_long(body: bytes, items_of: str, take: Take, pause: Pause) -> Any:
    """Parse a body as `parse_json` does, except for the items of one member, if that is a list.

    The items are passed to `take`, some at a time, and the list is returned empty. `pause` is awaited between two
    pieces. Raises ValueError or RecursionError for JSON that `parse_json` refuses. Raises Refusal (`malformed_body`) if
    an item, or everything outside the items, is longer than `LONGEST_ITEM`, or if an object has more than
    `MOST_MEMBERS` members. Raises the exceptions of `take`.
    """
    reader = _Reader(body, pause)
    value = await reader.object(items_of, take) if await reader.peek() == "{" else await reader.value()
    if await reader.peek():
        raise ValueError("more than one value")
    check_depth(value, DEEPEST_NESTING)
    return value


class _Reader:
    """A body's text, of which one piece is decoded at a time, next to the rest of the previous piece."""

    def __init__(self, body: bytes, pause: Pause) -> None:
        self._body = memoryview(body)
        self._decoder = getincrementaldecoder("utf-8")()
        self._pause = pause
        self._text = ""
        self._at = 0
        self._beside = 0
        """Characters read outside the items."""

    async def peek(self) -> str:
        """Skip white space and return the next character; empty at the end."""
        while True:
            self._at = _end_of(_SPACE, self._text, self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._body:
                return ""
            await self._read_on()

    async def value(self) -> Any:
        """Parse the next value."""
        await self.peek()
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except (ValueError, RecursionError):
                pass  # invalid, or cut off at the end of the piece
            else:
                if self._is_whole(end):
                    self._beside += end - self._at
                    self._at = end
                    _check_length(self._beside)
                    return value
            await self._lengthen()

    def _is_whole(self, end: int) -> bool:
        """Return whether a value really ends here: a number may continue in the next piece."""
        following = self._text[end : end + 1]
        return following in _FOLLOWING if following else not self._body

    async def object(self, items_of: str, take: Take) -> dict[str, Any]:
        """Parse the next object, and pass the items of one member on."""
        members: dict[str, Any] = {}
        await self._pass("{")
        if await self.peek() == "}":
            await self._pass("}")
            return members
        while True:
            name = await self.value() if await self.peek() == '"' else None
            if name is None or name in members:
                raise ValueError("a name is missing or repeated")
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
        """Parse the complete items of the decoded text. Returns them, and whether the list ends with them."""
        cut = self._text.rfind("},", self._at, self._at + LONGEST_ITEM)
        if cut > 0:
            with suppress(ValueError, RecursionError):  # the brace was inside a text
                found: list[Any] = DECODER.decode(f"[{self._text[self._at : cut + 1]}]")
                self._at = cut + 2
                return found, False
        return self._one_by_one()

    def _one_by_one(self) -> tuple[list[Any], bool]:
        """Parse the complete items one by one, which takes half as long again."""
        found: list[Any] = []
        with suppress(ValueError, RecursionError):  # the next item is invalid or cut off
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
        """Read the next piece, because the next value is incomplete. Raises ValueError if there is no next piece."""
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
    assert found is not None, "it also matches an empty text"
    return found.end()
