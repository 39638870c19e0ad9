"""Our own rules find exactly the marked lines of the examples next to them."""

import re
from pathlib import Path

import pytest
import yaml

from tests.security.locks import HOME
from tests.security.scan import FOLDERS, RULES, semgrep

pytestmark = pytest.mark.scanner

ANNOTATION = re.compile(r"\s*# (ruleid|ok): (.+)")
EXAMPLES = sorted(RULES.glob("*.py"))


def rules_of(example: Path) -> set[str]:
    return {rule["id"] for rule in yaml.safe_load(example.with_suffix(".yml").read_text())["rules"]}


def annotated(example: Path, word: str) -> set[tuple[str, int]]:
    """Return the lines below the comments for each rule: `# ruleid: …` must be found, `# ok: …` must not."""
    return {
        (rule.strip(), number + 1)
        for number, line in enumerate(example.read_text().splitlines(), start=1)
        if (found := ANNOTATION.fullmatch(line)) and found[1] == word
        for rule in found[2].split(",")
    }


@pytest.fixture(scope="module")
def found() -> dict[str, set[tuple[str, int]]]:
    """Return semgrep's findings in all examples, by the name of the example."""
    names = [path.relative_to(HOME).as_posix() for path in EXAMPLES]
    findings: dict[str, set[tuple[str, int]]] = {path.name: set() for path in EXAMPLES}
    for line in semgrep(names, set(names)):
        place, number, rule, _ = line.split(":", 3)
        findings[Path(place).name].add((rule.strip(), int(number)))
    return findings


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_rule_finds_exactly_the_marked_lines(example: Path, found: dict[str, set[tuple[str, int]]]) -> None:
    mine = {(rule, line) for rule, line in found[example.name] if rule in rules_of(example)}
    assert mine == annotated(example, "ruleid")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_rule_has_a_bad_and_a_good_example(example: Path) -> None:
    assert {rule for rule, _ in annotated(example, "ruleid")} == rules_of(example)
    assert annotated(example, "ok")


def test_every_rule_has_an_example_file() -> None:
    assert [path.stem for path in EXAMPLES] == sorted(path.stem for path in RULES.glob("*.yml"))


def suppressions() -> list[str]:
    """Return every comment that silences a scanner, with the line before it, which may contain the reason."""
    silent = []
    for folder in FOLDERS:
        for path in sorted((HOME / folder).rglob("*.py")):
            lines = ["", *path.read_text().splitlines()]
            silent += [
                f"{lines[at - 1]}\n{line}" for at, line in enumerate(lines) if re.search(r"# nosec|# nosem", line)
            ]
    return silent


def test_some_findings_are_silenced() -> None:
    assert len(suppressions()) > 5


@pytest.mark.parametrize("lines", suppressions())
def test_every_silenced_finding_names_its_rule_and_reason(lines: str) -> None:
    before, line = lines.split("\n")
    known = {rule for example in EXAMPLES for rule in rules_of(example)}
    if (silenced := re.search(r"# nosemgrep: (\S+) - \w+", line)) is not None:
        assert silenced[1] in known
    else:
        assert re.search(r"# nosec B\d{3}( # \w+|$)", line)
        assert re.search(r"# nosec B\d{3} # \w+", line) or before.strip().startswith("# ")
