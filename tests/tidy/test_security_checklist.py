"""The security checklist names existing tests, and covers every requirement."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import core
from core.settings import Settings, variable

HOME = Path(core.__file__).parent.parent
PAGE = (HOME / "docs/reference/security-checklist.md").read_text()
REQUIREMENTS = dict(line.split() for line in (Path(__file__).parent / "asvs-5.0.0.txt").read_text().splitlines())
"""The level of each requirement, in the order of the standard. Only its numbers are copied, not its wording."""
NUMBER = r"v5\.0\.0-(\d+\.\d+\.\d+)"
NAMED = sorted(set(re.findall(r"`(tests/[^`\s]+)`", PAGE)))
ADDRESSES = {"redis_url", "sentry_dsn"}
"""Secret settings that are addresses, not keys."""


@cache
def named_in(path: Path) -> set[str]:
    """Return every test of a module; tests of a class with the class's name."""
    body = ast.parse(path.read_text()).body
    classes = {node.name: node.body for node in body if isinstance(node, ast.ClassDef)}
    functions = [("", node) for node in body]
    functions += [(f"{name}::", node) for name, inside in classes.items() for node in inside]
    return {f"{of}{node.name}" for of, node in functions if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def answered() -> list[str]:
    return re.findall(rf"^\| {NUMBER} \| \d \|", PAGE, re.MULTILINE)


def left_out() -> list[str]:
    """Return the requirements that do not apply, with expanded ranges; a range excludes level 3."""
    order, found = list(REQUIREMENTS), []
    for first, last in re.findall(rf"^\| {NUMBER}(?: to {NUMBER})? \| \D", PAGE, re.MULTILINE):
        span = order[order.index(first) : order.index(last or first) + 1]
        assert span, first
        found += [number for number in span if REQUIREMENTS[number] != "3"]
    return found


def test_the_page_names_many_tests() -> None:
    assert len(NAMED) > 100


@pytest.mark.parametrize("name", NAMED)
def test_evidence_of_an_item_exists(name: str) -> None:
    file, _, test = name.partition("::")
    assert (HOME / file).is_file()
    if file.endswith(".py"):
        assert test in {"", *named_in(HOME / file)}


@pytest.mark.parametrize("number", range(1, 11))
def test_every_item_of_the_top_10_has_a_row_with_evidence(number: int) -> None:
    (row,) = re.findall(rf"^\| \*\*API{number}\*\* .*$", PAGE, re.MULTILINE)
    assert "`tests/" in row
    assert len(row.split(" | ")) == 5


def test_every_requirement_of_levels_1_and_2_is_answered_once_or_does_not_apply() -> None:
    wanted = [number for number, level in REQUIREMENTS.items() if level != "3"]
    of_level_3 = [number for number in answered() if REQUIREMENTS[number] == "3"]
    assert sorted([*answered(), *left_out()]) == sorted([*wanted, *of_level_3])


@pytest.mark.parametrize(("number", "level", "rest"), re.findall(rf"^\| {NUMBER} \| (\d) \| (.*)$", PAGE, re.MULTILINE))
def test_every_answer_has_level_verdict_and_evidence(number: str, level: str, rest: str) -> None:
    assert REQUIREMENTS[number] == level
    met, answer, held = rest.removesuffix(" |").split(" | ")
    assert met in {"yes", "partly", "no"}
    assert len(answer) > 10
    assert re.search(r"`tests/|\]\(", held)


def test_totals_on_the_page_are_correct() -> None:
    rows = re.findall(rf"^\| {NUMBER} \| [12] \| (yes|partly|no) \|", PAGE, re.MULTILINE)
    count = {met: sum(1 for _, said in rows if said == met) for met in ("yes", "partly", "no")}
    assert (
        f"Of the {len(rows) + len(left_out())} requirements of levels 1 and 2, {len(rows)} apply: {count['yes']} are "
        f"met, {count['partly']} in part, {count['no']} not. {len(left_out())} do not apply."
    ) in PAGE


def test_every_key_of_the_settings_is_in_the_inventory() -> None:
    secret = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    assert len(secret - ADDRESSES) > 3
    inventory = PAGE.partition("\n## Keys, and what they are for\n")[2].partition("\n## ")[0]
    assert [name for name in secret - ADDRESSES if f"`{variable(name)}`" not in inventory] == []


@pytest.mark.parametrize("heading", re.findall(r"\]\(#([a-z-]+)\)", PAGE))
def test_headings_that_the_page_links_to_exist(heading: str) -> None:
    headings = [re.sub(r"[^a-z -]", "", line.lower()).strip() for line in re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)]
    assert heading in [line.replace(" ", "-") for line in headings]
