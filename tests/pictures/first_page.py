"""Draw the first page of a PDF as a PNG; run with .venv-docs."""

import sys

import pypdfium2
from PIL import Image, ImageOps

SCALE = 1.5
COLOURS = 160
MARGIN = 2
EDGE = "#c9d1d9"


def main(pdf: str, png: str) -> None:
    """Draw the page with a thin edge, in few colours so that the file is small."""
    page = pypdfium2.PdfDocument(pdf)[0].render(scale=SCALE).to_pil().convert("RGB")
    framed = ImageOps.expand(page, border=MARGIN, fill=EDGE)
    framed.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(png, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
