"""Changes of the OpenAPI document that break a client: `python -m tests.contract.breaking [REVISION]`.

Compares docs/reference/openapi.json with the one of a git revision: by default the newest tag before HEAD, or else
origin/main, or else HEAD~1. Exit status 1 if a client of that revision could fail now and the version does not say so.
A version says so by a new major number, or while that is 0 by a new minor number.
"""

import json
import re
import subprocess
import sys

from tests.contract.comparison import breaks
from tests.contract.document import HOME, NAME, PAGE


def allows_breaks(old: str, new: str) -> bool:
    """Return whether a new version may break clients of the old one."""
    (major, minor), (new_major, new_minor) = (map(int, re.findall(r"\d+", version)[:2]) for version in (old, new))
    return new_major > major or (major == new_major == 0 and new_minor > minor)


def _git(*words: str) -> str | None:
    done = subprocess.run(["git", *words], cwd=HOME, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def base() -> str | None:
    """Choose a revision to compare with: one that this clone has and that is not HEAD."""
    head = _git("rev-parse", "HEAD")
    for revision in (_git("describe", "--tags", "--abbrev=0", "HEAD~1"), "origin/main", "HEAD~1"):
        if revision and _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}") not in (None, head):
            return revision
    return None


def main(revision: str | None) -> int:
    """Compare, print the result, and return the exit status."""
    if revision is None and (revision := base()) is None:
        print("breaking changes: not compared, because this clone has no earlier revision")
        return 0
    commit = _git("rev-parse", "--verify", "--short", f"{revision}^{{commit}}")
    if commit is None:
        print(f"breaking changes: the revision {revision} does not exist in this clone", file=sys.stderr)
        return 2
    before = _git("show", f"{commit}:{NAME}")
    if before is None:
        print(f"breaking changes: not compared, because {revision} ({commit}) has no {NAME}")
        return 0
    old, new = json.loads(before), json.loads(PAGE.read_text())
    found = breaks(old, new)
    versions = old["info"]["version"], new["info"]["version"]
    print(f"breaking changes since {revision} ({commit}, version {versions[0]}): {len(found)}", *found, sep="\n  ")
    if found and allows_breaks(*versions):
        print(f"The version {versions[1]} allows them.")
        return 0
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else None))
