"""The public CI, and the policy for reporting vulnerabilities."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import core

HOME = Path(core.__file__).parent.parent
WORKFLOWS = sorted((HOME / ".github/workflows").glob("*.yml"))


def steps() -> list[dict[str, Any]]:
    jobs = [job for path in WORKFLOWS for job in yaml.safe_load(path.read_text())["jobs"].values()]
    return [step for job in jobs for step in job["steps"]]


def commands() -> list[str]:
    return [step["run"] for step in steps() if "run" in step]


@pytest.mark.parametrize("command", [".ci/run", "make audit"])
def test_public_ci_runs(command: str) -> None:
    assert command in commands()


@pytest.mark.parametrize(
    "step", ["make lint", "make security", "FUZZ_SECONDS=30 make fuzz", "make faults", "make test"]
)
def test_ci_runs_every_security_and_fault_step(step: str) -> None:
    assert step in (HOME / ".ci/run").read_text().splitlines()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_have_only_read_permission(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert [name for name, job in workflow["jobs"].items() if "permissions" in job] == []
    assert "pull_request_target" not in path.read_text()
    assert "secrets." not in path.read_text()


def test_external_actions_are_pinned_and_keep_no_credentials() -> None:
    used = [step for step in steps() if "uses" in step]
    assert used
    for step in used:
        assert re.fullmatch(r"actions/checkout@[0-9a-f]{40}", step["uses"])
        assert step["with"]["persist-credentials"] is False


def test_no_command_contains_untrusted_input() -> None:
    assert [command for command in commands() if "${{" in command] == []


def test_every_job_has_a_timeout() -> None:
    jobs = [job for path in WORKFLOWS for job in yaml.safe_load(path.read_text())["jobs"].values()]
    assert all(job["timeout-minutes"] <= 120 for job in jobs)


@pytest.mark.parametrize(
    "section", ["Supported versions", "Report a vulnerability", "What happens then", "In scope", "Safe harbour"]
)
def test_policy_has_section(section: str) -> None:
    assert f"\n## {section}\n" in (HOME / ".github/SECURITY.md").read_text()
