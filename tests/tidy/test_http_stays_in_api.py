"""The core names the parts of a request in domain terms. Only the API knows their location on the wire."""

import ast
import re
from pathlib import Path

import pytest

import core
from api.http.parts import NAMES
from core.domain.errors import Part

HOME = Path(core.__file__).parent.parent
SOURCES = [path for wing in ("core", "workers") for path in sorted((HOME / wing).rglob("*.py"))]
LOCATION = re.compile(r"(body|path|query|header|cookie)\.[\w.-]*")


def locations_in(source: str) -> list[str]:
    """Return the strings of a program that are locations in a request, such as `body.amount`."""
    texts = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    return [text for text in texts if isinstance(text, str) and LOCATION.fullmatch(text)]


def test_the_core_and_the_workers_contain_no_locations_of_requests() -> None:
    found = {str(path.relative_to(HOME)): locations_in(path.read_text()) for path in SOURCES}
    assert {path: locations for path, locations in found.items() if locations} == {}


@pytest.mark.parametrize("source", ["about = 'body.amount'", "line = f'body.transfers.{index}'", "f('query.cursor')"])
def test_a_location_is_found_in_plain_and_formatted_texts(source: str) -> None:
    assert len(locations_in(source)) == 1


def test_every_part_but_the_header_has_a_name_on_the_wire() -> None:
    assert set(Part) - set(NAMES) == {Part.IDEMPOTENCY_KEY}
