"""The file of excluded users."""

from pathlib import Path
from uuid import UUID

import pytest

from core.files import exclusions
from core.files.exclusions import IN, OUT

ADA, BOB = UUID(int=1), UUID(int=2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "exclusions"


def test_the_last_line_of_a_user_counts(path: Path) -> None:
    for user, word in ((ADA, OUT), (BOB, OUT), (ADA, IN), (BOB, IN), (BOB, OUT)):
        exclusions.append(path, user, word)
    assert exclusions.read(path) == exclusions.Exclusions((BOB,))


def test_a_missing_file_excludes_nobody(path: Path) -> None:
    assert exclusions.read(path).users == ()


@pytest.mark.parametrize(
    ("torn", "users", "unreadable"),
    [(f"{BOB} ou", (ADA, BOB), 0), (f"{ADA} i", (ADA,), 0), (f"{ADA}"[:20], (ADA,), 1), (f"{ADA} in", (), 0)],
)
def test_a_torn_line_lets_nobody_in(path: Path, torn: str, users: tuple[object, ...], unreadable: int) -> None:
    exclusions.append(path, ADA, OUT)
    path.write_text(path.read_text() + torn)
    found = exclusions.read(path)
    assert (found.users, found.unreadable) == (users, unreadable)


def test_a_list_that_another_one_continues_does_not_count(tmp_path: Path) -> None:
    newer, older, equal, other = (tmp_path / name for name in ("newer", "older", "equal", "other"))
    exclusions.append(older, ADA, OUT)
    newer.write_bytes(older.read_bytes())
    exclusions.append(newer, ADA, IN)
    equal.write_bytes(newer.read_bytes())
    exclusions.append(other, BOB, OUT)
    for paths in ([newer, older], [older, newer], [older, newer, older]):
        assert exclusions.newest_of(paths) == [newer]
    assert exclusions.newest_of([newer, equal]) == [newer]
    assert exclusions.newest_of([older, other, tmp_path / "missing", newer]) == [other, newer]
