"""The scanners: they find problems, and a skipped file fails the scan."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.security import scan
from tests.security.locks import HOME

pytestmark = pytest.mark.scanner


@pytest.fixture
def module() -> Iterator[Path]:
    """A temporary module among the others."""
    path = HOME / "deploy" / "scanned_by_a_test.py"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def name(path: Path) -> str:
    return path.relative_to(HOME).as_posix()


def test_bandit_finds_problems_without_our_own_rules(module: Path) -> None:
    module.write_text("import telnetlib\n")
    (finding,) = scan.bandit({name(module)})
    assert finding.startswith("deploy/scanned_by_a_test.py:1: B401: ")


def test_our_own_rules_find_a_problem(module: Path) -> None:
    module.write_text("import pickle\n")
    (finding,) = scan.semgrep(["deploy"], {name(module)})
    assert finding.startswith("deploy/scanned_by_a_test.py:1: input-is-never-executed: ")


def test_file_that_bandit_cannot_parse_fails_the_scan(module: Path) -> None:
    module.write_text("def broken(:\n")
    with pytest.raises(scan.NotLookedAtError, match="scanned_by_a_test"):
        scan.bandit({name(module)})


def test_file_that_semgrep_skips_fails_the_scan() -> None:
    with pytest.raises(scan.NotLookedAtError, match=r"core/security/access_tokens\.py"):
        scan.semgrep(["core/clock.py"], {"core/clock.py", "core/security/access_tokens.py"})


def test_missing_scanner_fails_the_scan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(scan, "TOOLS", tmp_path)
    with pytest.raises(scan.NotLookedAtError, match="bandit"):
        scan.bandit({"core/clock.py"})
