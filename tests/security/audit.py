"""Known vulnerabilities of every locked package: `make audit`.

pip-audit queries OSV (https://osv.dev). An audit passes only if every package was looked up. Packages whose marker
excludes this machine are included, and the answers are compared with the lock file. The first query is a package with
a well-known vulnerability: a service that does not know it (an empty database, a proxy that answers in its place)
proves nothing.

Exit status: 0 no known vulnerability, 1 at least one, 2 the lookup failed.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.security.locks import HOME, LOCK_FILES, TOOLS, Locked, locked

PROBE = Locked("pyyaml", "5.3", ("sha256:" + "0" * 64,))
"""CVE-2020-1747, arbitrary code execution, published in March 2020. Never installed; pip-audit requires some hash."""
SECONDS = 30
"""Time limit for one answer."""
LONGEST = 900
"""Time limit for one lock file."""


class CouldNotLookError(Exception):
    """A package could not be looked up; the message says why."""


@dataclass(slots=True)
class Found:
    """The results for the packages of one lock file."""

    looked_up: set[str] = field(default_factory=set)
    skipped: dict[str, str] = field(default_factory=dict)
    vulnerable: list[str] = field(default_factory=list)


def main(service: str | None = None) -> int:
    """Look up every lock file, and print the result."""
    try:
        require_sight(service)
        everything = {path.relative_to(HOME): whole(locked(path), service) for path in LOCK_FILES}
    except CouldNotLookError as error:
        print(f"The audit failed: {error}", file=sys.stderr)
        return 2
    count = sum(len(found.looked_up) for found in everything.values())
    vulnerable = [f"{path}: {line}" for path, found in everything.items() for line in found.vulnerable]
    print(*vulnerable, f"{count} packages looked up in {len(everything)} lock files: ", sep="\n", end="")
    print(f"{len(vulnerable)} known vulnerabilities")
    return 1 if vulnerable else 0


def require_sight(service: str | None) -> None:
    """Raise CouldNotLookError if the service does not know a well-known vulnerability."""
    if not look_up([PROBE], service).vulnerable:
        raise CouldNotLookError(
            f"the service reports no vulnerability in {PROBE.name} {PROBE.version}, so its answers prove nothing"
        )


def whole(packages: list[Locked], service: str | None) -> Found:
    """Look packages up; raises CouldNotLookError if one of them was not looked up."""
    found = look_up(packages, service)
    found.skipped |= {
        item.name: "left out" for item in packages if item.name not in found.looked_up | found.skipped.keys()
    }
    if found.skipped:
        raise CouldNotLookError(
            "skipped: " + "; ".join(f"{name} ({why})" for name, why in sorted(found.skipped.items()))
        )
    return found


def look_up(packages: list[Locked], service: str | None) -> Found:
    """Query packages; raises CouldNotLookError if there is no answer."""
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder, "requirements.txt")
        requirements.write_text("".join(f"{item.line()}\n" for item in packages))
        return _read(_ask(requirements, Path(folder, "answer.json"), service))


def _ask(requirements: Path, answer: Path, service: str | None) -> dict[str, Any]:
    command = [str(TOOLS / "pip-audit"), "--requirement", str(requirements), "--output", str(answer)]
    command += ["--require-hashes", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    # A temporary cache, because an answer of last week does not count.
    command += ["--cache-dir", str(answer.parent / "cache"), "--timeout", str(SECONDS)]
    command += ["--vulnerability-service", "osv", *(["--osv-url", service] if service else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONGEST)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CouldNotLookError(str(error)) from None
    try:
        # Exit status 1 means a vulnerability or a crash of pip-audit: the answer tells which.
        read: dict[str, Any] = json.loads(answer.read_text())
    except (OSError, ValueError):
        raise CouldNotLookError(_last_line(done.stderr)) from None
    return read


def _read(answer: dict[str, Any]) -> Found:
    found = Found()
    for item in answer.get("dependencies", []):
        if "skip_reason" in item:
            found.skipped[item["name"]] = item["skip_reason"]
            continue
        found.looked_up.add(item["name"])
        for hole in item["vulns"]:
            names = ", ".join([hole["id"], *hole["aliases"]])
            fixed = ", ".join(hole["fix_versions"]) or "no version yet"
            found.vulnerable.append(f"{item['name']} {item['version']}: {names}; fixed in {fixed}")
    return found


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "pip-audit ended without output"


if __name__ == "__main__":
    raise SystemExit(main(os.environ.get("AUDIT_SERVICE_URL") or None))
