"""Texts that people write and others read: without the characters that turn a text around."""

import re

_DIRECTIONS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""The bidirectional controls (Unicode Standard Annex 9): marks, embeddings, overrides and isolates."""


class Stripped(str):
    """A text that was sent with bidirectional controls, without them."""

    given: str
    """The text as it was sent. Fingerprints of older releases were made of it."""


def without_directions(text: str) -> str:
    """Return a text without bidirectional controls, with which one text could look like another."""
    if text.isascii() or not _DIRECTIONS.search(text):
        return text
    stripped = Stripped(_DIRECTIONS.sub("", text))
    stripped.given = text
    return stripped
