"""Reading of the project's lock files."""

import re
from dataclasses import dataclass
from pathlib import Path

HOME = Path(__file__).parents[2]
TOOLS = HOME / ".venv-security/bin"
"""A separate environment: the audit must not change the audited packages."""
RUNS = HOME / "requirements.lock"
LOCK_FILES = [
    RUNS,
    HOME / "tests/requirements.lock",
    HOME / "tests/benchmarks/requirements.lock",
    HOME / "tests/security/requirements.lock",
    HOME / "tests/clients/requirements.lock",
    HOME / "deploy/docs/requirements.lock",
]


@dataclass(frozen=True, slots=True)
class Locked:
    """One package of a lock file, at one version."""

    name: str
    version: str
    hashes: tuple[str, ...]

    def line(self) -> str:
        """Return the requirement without its marker: packages for other platforms count as well."""
        return " ".join([f"{self.name}=={self.version}", *(f"--hash={item}" for item in self.hashes)])


def canonical(name: str) -> str:
    """Return the normalized name of a package (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(path: Path) -> list[Locked]:
    """Return all packages of a lock file, for every platform. Raises ValueError for an unreadable line."""
    text = re.sub(r"\\\n\s*", "", path.read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [_locked(line) for line in lines]


def _locked(line: str) -> Locked:
    found = re.match(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([^ ;]+)", line)
    hashes = tuple(re.findall(r"--hash=(\S+)", line))
    if found is None or not hashes:
        raise ValueError(f"neither a version nor a hash in: {line[:80]}")
    return Locked(canonical(found[1]), found[2], hashes)
