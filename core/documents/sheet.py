"""An A4 sheet to draw on: text in two weights, lines and boxes, in the sizes and colours of our documents.

Positions and sizes are in points, from the lower left corner. Texts are made printable here.
"""

from dataclasses import dataclass, replace

from reportlab.lib.colors import Color, HexColor
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

from core.documents.typeface import Typeface, bold, regular

WIDTH, HEIGHT = A4
LEFT, RIGHT = 56.0, WIDTH - 56.0
BOTTOM = 58.0
"""Only the footer is below this line."""

INK = HexColor("#1b2530")
MUTED = HexColor("#5d6977")
ACCENT = HexColor("#173a5e")
HAIRLINE = HexColor("#d4dae1")
PALE = HexColor("#f4f6f9")
AMBER = HexColor("#d08700")
PALE_AMBER = HexColor("#fff7e3")


@dataclass(frozen=True, slots=True)
class Ink:
    """How a text looks."""

    size: float
    color: Color = INK
    heavy: bool = False

    @property
    def face(self) -> Typeface:
        """The typeface of its weight."""
        return bold() if self.heavy else regular()


class Sheet:
    """The current page of a document."""

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas

    def text(self, x: float, y: float, text: str, ink: Ink, width: float | None = None) -> None:
        """Write one line that starts at `x`. If a width is given, text that does not fit is cut."""
        shown = ink.face.printable(text)
        if not shown:
            return
        if width is not None:
            shown = ink.face.cut(shown, ink.size, width)
        self.canvas.setFont(ink.face.name, ink.size)
        self.canvas.setFillColor(ink.color)
        self.canvas.drawString(x, y, shown)

    def text_to(self, x: float, y: float, text: str, ink: Ink, width: float | None = None) -> None:
        """Write one line that ends at `x`. If a width is given, wider text is shrunk, since an amount is never cut."""
        shown = ink.face.printable(text)
        taken = ink.face.width(shown, ink.size)
        if width is not None and taken > width:
            ink = replace(ink, size=ink.size * width / taken)
            taken = width
        self.text(x - taken, y, shown, ink)

    def paragraph(self, x: float, y: float, text: str, ink: Ink, *, width: float, most: int, leading: float) -> float:
        """Write wrapped text, with its first line at `y`. Returns the position of the next line."""
        for line in ink.face.wrap(ink.face.printable(text), ink.size, width, most):
            self.text(x, y, line, ink)
            y -= leading
        return y

    def line(self, y: float, color: Color, thickness: float, left: float = LEFT, right: float = RIGHT) -> None:
        """Draw a line from left to right."""
        self.canvas.setStrokeColor(color)
        self.canvas.setLineWidth(thickness)
        self.canvas.line(left, y, right, y)

    def box(self, left: float, bottom: float, right: float, top: float, color: Color) -> None:
        """Fill a rectangle."""
        self.canvas.setFillColor(color)
        self.canvas.rect(left, bottom, right - left, top - bottom, stroke=0, fill=1)
