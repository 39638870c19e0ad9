"""The scanners: what they find, and that passing over a file is no pass."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.security import scan
from tests.security.locks import HOME

pytestmark = pytest.mark.scanner


@pytest.fixture
def module() -> Iterator[Path]:
    """A module beside the others, gone afterwards."""
    path = HOME / "deploy" / "scanned_by_a_test.py"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def name(path: Path) -> str:
    return path.relative_to(HOME).as_posix()


def test_bandit_finds_what_our_own_rules_do_not_look_for(module: Path) -> None:
    module.write_text("import telnetlib\n")
    (finding,) = scan.bandit({name(module)})
    assert finding.startswith("deploy/scanned_by_a_test.py:1: B401: ")


def test_our_own_rules_find_it_among_the_others(module: Path) -> None:
    module.write_text("import pickle\n")
    (finding,) = scan.semgrep(["deploy"], {name(module)})
    assert finding.startswith("deploy/scanned_by_a_test.py:1: nothing-is-run-that-was-sent: ")


def test_what_bandit_cannot_read_is_no_pass(module: Path) -> None:
    module.write_text("def broken(:\n")
    with pytest.raises(scan.NotLookedAtError, match="scanned_by_a_test"):
        scan.bandit({name(module)})


def test_what_semgrep_passes_over_is_no_pass() -> None:
    with pytest.raises(scan.NotLookedAtError, match=r"core/security/access_tokens\.py"):
        scan.semgrep(["core/clock.py"], {"core/clock.py", "core/security/access_tokens.py"})


def test_a_scanner_that_is_not_there_is_no_pass(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(scan, "TOOLS", tmp_path)
    with pytest.raises(scan.NotLookedAtError, match="bandit"):
        scan.bandit({"core/clock.py"})
