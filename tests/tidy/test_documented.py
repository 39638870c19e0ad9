"""docs/reference has every error code, setting, metric, failpoint, rule of the verifier and audited action, the README
has every make target, and every command that a page names exists."""

import re
import tomllib
from pathlib import Path

import pytest
from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase
from typer.core import TyperGroup
from typer.main import get_command

import core
from api.app import create_app  # loads every capability, and so every error code
from api.codes import is_answered, status_of
from core import failpoints
from core.cli import app
from core.domain.audit import Action
from core.domain.batches import BatchError
from core.domain.cards import CardStatus, CardType
from core.domain.errors import ErrorCode
from core.domain.statements import StatementStatus
from core.domain.transfers import TransferError, TransferKind, TransferStatus
from core.services.verification import RULES
from core.settings import reference
from core.telemetry import metrics
from workers.metrics import gauges, queue

assert create_app
HOME = Path(core.__file__).parent.parent
REFERENCE = HOME / "docs" / "reference"
PAGES = [HOME / "README.md", *sorted((HOME / "docs").rglob("*.md"))]

FAILURES_ONLY = {
    BatchError.FAILED,
    TransferError.OWNER_INACTIVE,
    TransferError.PAYEE_CLOSED,
    TransferError.PAYEE_FROZEN,
}
"""Reasons for a failed transfer, which are never the answer to a call."""


def names_in(page: str) -> set[str]:
    """Return every name that a page formats as code."""
    return set(re.findall(r"`([^`\n]+)`", (REFERENCE / page).read_text()))


def measured() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return the type and labels of every metric of Giro's processes, by name."""
    found = {name: ("gauge", tuple(gauges.LABELS.get(name, ()))) for name in gauges.HELP}
    for item in (item for module in (*metrics.MODULES, queue) for item in vars(module).values()):
        if isinstance(item, MetricWrapperBase):
            suffix = "_total" if isinstance(item, Counter) else ""
            found[item._name + suffix] = (item._type, tuple(item._labelnames))
    for family in metrics.processes.NOW.collect():
        (sample,) = family.samples
        found[sample.name] = ("gauge", tuple(sample.labels))
    return found


def metric_rows() -> dict[str, list[str]]:
    """Return the cells of each row of the tables of metrics, by the first cell."""
    lines = re.findall(r"^\| (`[a-z_]+` \|.*) \|$", (REFERENCE / "metrics.md").read_text(), re.MULTILINE)
    cells = [[cell.strip() for cell in line.split("|")] for line in lines]
    return {row[0].strip("`"): row for row in cells}


@pytest.mark.parametrize("code", ErrorCode.all())
def test_every_error_code_is_documented(code: ErrorCode) -> None:
    assert code.value in names_in("errors.md")


@pytest.mark.parametrize("code", ErrorCode.all())
def test_every_error_code_has_a_message_and_a_status_or_is_a_failure_only(code: ErrorCode) -> None:
    assert code.message.endswith(".")
    assert is_answered(code) != (code in FAILURES_ONLY)


@pytest.mark.parametrize("code", ErrorCode.all())
def test_advice_for_clients_is_the_same_in_the_page_and_in_the_code(code: ErrorCode) -> None:
    (row,) = re.findall(rf"^\| `{code}` \|.*\| (.*) \|$", (REFERENCE / "errors.md").read_text(), re.MULTILINE)
    assert re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", row) == code.advice


@pytest.mark.parametrize("code", list(filter(is_answered, ErrorCode.all())))
def test_status_of_every_code_is_documented(code: ErrorCode) -> None:
    lines = [line for line in (REFERENCE / "errors.md").read_text().splitlines() if f"`{code}`" in line]
    assert any(re.search(rf"\b{status_of(code)}\b", line) for line in lines), lines


def test_the_page_of_settings_is_what_make_reference_writes() -> None:
    assert reference.PAGE.read_text() == reference.page(reference.PAGE.read_text()), "run `make reference`"


def test_the_example_of_an_env_file_is_what_make_reference_writes() -> None:
    assert reference.EXAMPLE.read_text() == reference.example(), "run `make reference`"


@pytest.mark.parametrize(("name", "shown"), measured().items())
def test_every_metric_is_documented_with_its_type_its_labels_and_its_meaning(
    name: str, shown: tuple[str, tuple[str, ...]]
) -> None:
    assert re.match(r"giro_|dramatiq_", name)
    _, kind, labels, _, meaning, _ = metric_rows()[name]
    assert (kind, tuple(re.findall(r"`(\w+)`", labels))) == shown
    assert meaning.endswith(".")


def test_documented_metrics_exist() -> None:
    documented = {name for name in names_in("metrics.md") if re.fullmatch(r"(giro|dramatiq)_[a-z_]+", name)}
    assert metric_rows().keys() | documented == measured().keys()


def test_documented_failpoints_and_their_actions_are_complete() -> None:
    rows = re.findall(r"^\| `([a-z_.]+)` \| (.*) \|$", (REFERENCE / "failpoints.md").read_text(), re.MULTILINE)
    assert rows == [*failpoints.POINTS.items(), *failpoints.ACTIONS.items()]


@pytest.mark.parametrize("rule", RULES)
def test_every_verification_rule_is_documented(rule: str) -> None:
    assert rule in names_in("verification.md")


@pytest.mark.parametrize("word", [*CardStatus, *CardType])
def test_every_status_and_type_of_a_card_is_documented(word: str) -> None:
    cards = (REFERENCE / "statuses.md").read_text().partition("\n## Cards\n")[2].partition("\n## ")[0]
    assert f"`{word}`" in cards


@pytest.mark.parametrize("word", sorted({*TransferStatus, *TransferKind, *StatementStatus}))
def test_every_status_and_kind_is_documented(word: str) -> None:
    assert word in names_in("statuses.md")


@pytest.mark.parametrize("action", Action)
def test_every_action_of_the_audit_log_is_documented(action: Action) -> None:
    assert action.value in actions_documented()


def test_documented_actions_exist() -> None:
    assert actions_documented() == {action.value for action in Action}


def actions_documented() -> set[str]:
    """Return the first column of the table of actions."""
    section = (REFERENCE / "audit.md").read_text().partition("\n## Actions\n")[2].partition("\n#")[0]
    return set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


def test_commands_named_in_the_documents_exist() -> None:
    assert sum(len(commands_named(page)) for page in PAGES) > 100
    assert [
        f"{page.relative_to(HOME)}: giro {' '.join(words)}"
        for page in PAGES
        for words in commands_named(page)
        if not is_command(words)
    ] == []


def commands_named(page: Path) -> list[list[str]]:
    """Return the words after each `giro` in a page's code that may be command names."""
    code = re.findall(r"```.*?```|`[^`\n]+`", page.read_text(), re.DOTALL)
    calls = [call for text in code for call in re.findall(r"(?<!-u )\bgiro((?: [a-z][a-z-]*\b)+)", text)]
    return [call.split() for call in calls]


def is_command(words: list[str]) -> bool:
    """Return whether the words start with the name of a command, through its groups."""
    command = get_command(app)
    for word in words:
        if not isinstance(command, TyperGroup):
            return True
        if word not in command.commands:
            return False
        command = command.commands[word]
    return True


def test_every_dependency_has_a_line_that_says_why() -> None:
    project = tomllib.loads((HOME / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    requirements = [*project["project"]["dependencies"], *(item for extra in extras for item in extra), "hatchling"]
    names = {re.split(r"[\[><=; ]", requirement)[0] for requirement in requirements}
    page = (HOME / "docs" / "decisions" / "0009-libraries-and-lock-files.md").read_text()
    rows = re.findall(r"^\| (`.*?) \| .+ \| .+ \|$", page, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([^`]+)`", row)} == names


def test_contribute_page_lists_the_make_targets_as_make_help_does() -> None:
    targets = re.findall(r"^([a-z-]+):.*## (.*)$", (HOME / "Makefile").read_text(), re.MULTILINE)
    page = (HOME / "docs" / "how-to" / "contribute.md").read_text()
    assert re.findall(r"^\| `make ([a-z-]+)` \| (.*) \|$", page, re.MULTILINE) == targets
