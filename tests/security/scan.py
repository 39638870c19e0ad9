"""bandit, and our own semgrep rules, over all product code: `make security`.

Both tools skip a file that they cannot parse, with only a line of output. Here a skipped file fails the run like a
finding. Neither tool uses the network.

Exit status: 0 no findings, 1 findings, 2 not every file was scanned.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.security.locks import HOME, TOOLS

FOLDERS = ["api", "core", "workers", "migrations", "deploy"]
RULES = HOME / "tests/security/rules"
SECONDS = 300


class NotLookedAtError(Exception):
    """A scanner skipped a file, or returned no result."""


def main() -> int:
    """Scan, and print the findings."""
    files = {path.relative_to(HOME).as_posix() for folder in FOLDERS for path in (HOME / folder).rglob("*.py")}
    try:
        findings = [*bandit(files), *semgrep(FOLDERS, files)]
    except NotLookedAtError as error:
        print(f"Not everything was scanned: {error}", file=sys.stderr)
        return 2
    rules = sum(path.read_text().count("\n  - id: ") for path in RULES.glob("*.yml"))
    print(*findings, f"bandit and {rules} rules of our own over {len(files)} files: ", sep="\n", end="")
    print(f"{len(findings)} findings")
    return 1 if findings else 0


def bandit(files: set[str]) -> list[str]:
    """Run bandit with the configuration of pyproject.toml; raises NotLookedAtError if it skipped a file."""
    answer = _run([TOOLS / "bandit", "--quiet", "--configfile", "pyproject.toml", "--format", "json", *sorted(files)])
    _require(files, {name for name in answer["metrics"] if name != "_totals"}, answer["errors"])
    return [
        f"{item['filename'].removeprefix('./')}:{item['line_number']}: {item['test_id']}: {item['issue_text']}"
        for item in answer["results"]
    ]


def semgrep(targets: Iterable[str], files: set[str]) -> list[str]:
    """Run semgrep with our rules; raises NotLookedAtError if it skipped a file."""
    answer = _run([
        *(TOOLS / "semgrep", "scan", "--config", RULES, "--json", "--quiet"),
        *("--metrics=off", "--disable-version-check", "--jobs", "1", "--timeout", "30", "--max-memory", "2000"),
        *targets,
    ])  # fmt: skip
    _require(files, answer["paths"]["scanned"], answer["errors"])
    return [
        f"{item['path']}:{item['start']['line']}: {item['check_id'].rpartition('.')[2]}: {item['extra']['message']}"
        for item in answer["results"]
    ]


def _require(files: set[str], scanned: Iterable[str], errors: list[Any]) -> None:
    if errors:
        raise NotLookedAtError(str(errors[0])[:300])
    if left := files - {name.removeprefix("./") for name in scanned}:
        raise NotLookedAtError(", ".join(sorted(left)))


def _run(command: list[str | Path]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        # semgrep stores its settings and its log in this folder.
        own = {"SEMGREP_SETTINGS_FILE": f"{folder}/settings.yml", "SEMGREP_LOG_FILE": f"{folder}/semgrep.log"}
        environment = {**os.environ, **own, "PATH": f"{TOOLS}:{os.environ['PATH']}"}
        try:
            done = subprocess.run(
                command, cwd=HOME, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS
            )
            answer: dict[str, Any] = json.loads(done.stdout)
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise NotLookedAtError(f"{command[0]}: {error}") from error
    return answer


if __name__ == "__main__":
    raise SystemExit(main())
