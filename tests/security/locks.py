"""The project's lock files, read."""

import re
from dataclasses import dataclass
from pathlib import Path

HOME = Path(__file__).parents[2]
TOOLS = HOME / ".venv-security/bin"
"""An environment of its own: what is looked at must not be changed by who looks."""
RUNS = HOME / "requirements.lock"
LOCK_FILES = [
    RUNS,
    HOME / "tests/requirements.lock",
    HOME / "tests/benchmarks/requirements.lock",
    HOME / "tests/security/requirements.lock",
]


@dataclass(frozen=True, slots=True)
class Locked:
    """One package of a lock file, at one version."""

    name: str
    version: str
    hashes: tuple[str, ...]

    def line(self) -> str:
        """The requirement without its marker: what is locked for another platform counts as well."""
        return " ".join([f"{self.name}=={self.version}", *(f"--hash={item}" for item in self.hashes)])


def canonical(name: str) -> str:
    """The one spelling of a package's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(path: Path) -> list[Locked]:
    """Read all that a lock file locks, for every platform. Raises ValueError for what it cannot read."""
    text = re.sub(r"\\\n\s*", "", path.read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [_locked(line) for line in lines]


def _locked(line: str) -> Locked:
    found = re.match(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([^ ;]+)", line)
    hashes = tuple(re.findall(r"--hash=(\S+)", line))
    if found is None or not hashes:
        raise ValueError(f"neither a version nor a hash in: {line[:80]}")
    return Locked(canonical(found[1]), found[2], hashes)
