"""The font of a PDF: Noto Sans in two weights, with its printable characters, text widths and line breaks."""

import unicodedata
from functools import lru_cache
from io import BytesIO
from threading import Lock

import pymupdf_fonts
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

ELLIPSIS = "…"
REPLACEMENT = "\ufffd"
"""Shown in place of a character that the font lacks. Noto Sans has this one."""

_FONTS = {"GiroSans": "notos", "GiroSans-Bold": "notosbo"}
"""Our name for a font → its code in the package pymupdf_fonts."""

_loading = Lock()
_loaded: dict[str, "Typeface"] = {}


class Typeface:
    """One weight of the font. A PDF document embeds only the glyphs that it uses."""

    def __init__(self, name: str, code: str) -> None:
        font = TTFont(name, BytesIO(pymupdf_fonts.myfont(code)), asciiReadable=False)
        pdfmetrics.registerFont(font)
        self.name = name
        self._widths: dict[int, float] = font.face.charWidths
        self.printable = lru_cache(maxsize=4096)(self._printable)

    def _printable(self, text: str) -> str:
        """Turn any text into one line that the font can show.

        The text is composed (NFC), because the renderer does not place combining marks. White space and control
        characters become single spaces. Invisible characters are left out, above all direction marks, which could
        make a text read backwards.
        """
        return " ".join("".join(map(self._shown, unicodedata.normalize("NFC", text))).split())

    def _shown(self, character: str) -> str:
        category = unicodedata.category(character)
        if category in {"Zs", "Zl", "Zp", "Cc"}:
            return " "
        if category == "Cf":
            return ""
        return character if ord(character) in self._widths else REPLACEMENT

    def width(self, text: str, size: float) -> float:
        """Measure printable text, in points."""
        return sum(self._widths[ord(character)] for character in text) * size / 1000

    def cut(self, text: str, size: float, width: float) -> str:
        """Cut printable text to a width, in points. An ellipsis replaces what does not fit."""
        if self.width(text, size) <= width:
            return text
        fitting = self._fitting(text, size, width - self.width(ELLIPSIS, size))
        return text[:fitting].rstrip() + ELLIPSIS

    def wrap(self, text: str, size: float, width: float, most: int) -> list[str]:
        """Break printable text into at most `most` lines. The last line is cut if it is too long.

        Lines break between words, after a hyphen, or inside a word that is wider than a line.
        """
        lines: list[str] = []
        while text and len(lines) < most - 1:
            end = self._end_of_line(text, size, width)
            lines.append(text[:end].rstrip())
            text = text[end:].lstrip()
        return [*lines, self.cut(text, size, width)] if text else lines

    def _end_of_line(self, text: str, size: float, width: float) -> int:
        fitting = self._fitting(text, size, width)
        if fitting == len(text):
            return fitting
        for end in range(fitting, 0, -1):
            if text[end] == " " or (text[end - 1] == "-" and text[: end - 1][-1:].isalnum()):
                return end
        return max(fitting, 1)

    def _fitting(self, text: str, size: float, width: float) -> int:
        """Count the leading characters that fit into a width."""
        room = width * 1000 / size
        for position, character in enumerate(text):
            room -= self._widths[ord(character)]
            if room < 0:
                return position
        return len(text)


def regular() -> Typeface:
    """Return the weight for text."""
    return _typeface("GiroSans")


def bold() -> Typeface:
    """Return the weight for headings and totals."""
    return _typeface("GiroSans-Bold")


def _typeface(name: str) -> Typeface:
    """Load a font once per process, so that a document never uses two fonts with the same name."""
    if name not in _loaded:
        with _loading:
            if name not in _loaded:
                _loaded[name] = Typeface(name, _FONTS[name])
    return _loaded[name]
