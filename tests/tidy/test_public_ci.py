"""The public CI, and the policy for reporting vulnerabilities."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import core

HOME = Path(core.__file__).parent.parent
RUN = HOME / ".ci/run"
WORKFLOWS = sorted((HOME / ".github/workflows").glob("*.yml"))


def steps() -> list[dict[str, Any]]:
    jobs = [job for path in WORKFLOWS for job in yaml.safe_load(path.read_text())["jobs"].values()]
    return [step for job in jobs for step in job["steps"]]


def commands() -> list[str]:
    return [step["run"] for step in steps() if "run" in step]


def parts() -> list[str]:
    """The parts that `.ci/run` runs when none is named, in their order."""
    (found,) = re.findall(r"^ALL=\((.*)\)$", RUN.read_text(), re.MULTILINE)
    return found.split()


def test_public_ci_runs_every_part_and_the_audit() -> None:
    jobs = yaml.safe_load((HOME / ".github/workflows/ci.yml").read_text())["jobs"]
    assert [*jobs["checks"]["strategy"]["matrix"]["part"], "quick"] == parts()
    assert {'.ci/run "$PART"', ".ci/run quick", "make audit"} <= set(commands())


def test_quick_tests_run_with_each_python_that_the_package_names() -> None:
    jobs = yaml.safe_load((HOME / ".github/workflows/ci.yml").read_text())["jobs"]
    classifiers = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]["classifiers"]
    named = re.findall(r"Python :: (3\.\d+)$", "\n".join(classifiers), re.MULTILINE)
    assert jobs["python"]["strategy"]["matrix"]["version"] == named


def test_a_part_that_does_not_exist_is_rejected_before_anything_runs() -> None:
    done = subprocess.run([RUN, "lint", "lnit"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no part named lnit" in done.stderr


@pytest.mark.parametrize(
    "command",
    ["make lint", "make security", "make docs", "FUZZ_SECONDS=30 make fuzz", "make faults", "make drill", "make test"],
)
def test_parts_check_security_and_money(command: str) -> None:
    assert command in RUN.read_text()


def test_hooks_before_a_commit_are_the_commands_of_make_lint() -> None:
    (recipe,) = re.findall(r"^lint:.*\n((?:\t.*\n)+)", (HOME / "Makefile").read_text(), re.MULTILINE)
    lint = [line.removeprefix("\t@$(BIN)/").removesuffix(" .") for line in recipe.splitlines()]
    config = yaml.safe_load((HOME / ".pre-commit-config.yaml").read_text())
    hooks = [hook["entry"].removeprefix(".venv/bin/") for repo in config["repos"] for hook in repo["hooks"]]
    assert hooks == [command.removesuffix(" Dockerfile") for command in lint]


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
        assert re.fullmatch(r"actions/(checkout|setup-python)@[0-9a-f]{40}", step["uses"])
        if "checkout" in step["uses"]:
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
