"""docs/reference/statement-formats.md lists exactly the columns of the CSV and the elements of camt.053."""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import core
from core.documents import FORMATS, csv, render
from tests.unit.documents.statement_builders import month

PAGE = (Path(core.__file__).parent.parent / "docs" / "reference" / "statement-formats.md").read_text()
FIRST_CELLS = re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE)


def leaves(element: Element, path: str = "") -> Iterator[str]:
    """Return the paths of all elements with text."""
    for child in element:
        below = f"{path}{child.tag.partition('}')[2]}"
        if len(child):
            yield from leaves(child, f"{below}/")
        else:
            yield below


def test_every_format_is_documented() -> None:
    assert [cell for cell in FIRST_CELLS if cell in FORMATS] == list(FORMATS)


def test_every_column_is_documented_in_order() -> None:
    assert [cell for cell in FIRST_CELLS if re.fullmatch("[a-z_]+", cell)] == list(csv.COLUMNS)


def test_every_element_is_documented_and_every_documented_element_is_used() -> None:
    used: set[str] = set()
    for provisional in (False, True):
        (document,) = ElementTree.fromstring(render("application/xml", *month([5, -5], provisional=provisional)))
        used.update(leaves(document))
    assert {cell for cell in FIRST_CELLS if cell.startswith(("GrpHdr/", "Stmt/"))} == used
