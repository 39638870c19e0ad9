"""Files that only ever grow, one line for each entry."""

import stat
from pathlib import Path

import pytest

from core.files import append_only


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "lines"


def test_lines_are_read_in_the_order_in_which_they_were_appended(path: Path) -> None:
    for line in ("one", "two", "three"):
        append_only.append(path, line)
    assert list(append_only.read(path)) == ["one", "two", "three"]
    assert append_only.last(path) == "three"


def test_a_missing_file_has_no_lines(path: Path) -> None:
    assert list(append_only.read(path)) == []
    assert append_only.last(path) is None
    assert not path.parent.exists()


def test_only_the_owner_can_open_the_file_and_its_folder(path: Path) -> None:
    append_only.append(path, "one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_line_torn_by_a_power_cut_is_ended_before_the_next_one(path: Path) -> None:
    append_only.append(path, "one")
    with path.open("a") as file:
        file.write("tw")
    assert append_only.last(path) == "one"
    append_only.append(path, "three")
    assert list(append_only.read(path)) == ["one", "tw", "three"]


def test_the_last_line_is_found_without_reading_the_whole_file(path: Path) -> None:
    line = "x" * 1000
    for _ in range(100):
        append_only.append(path, line)
    append_only.append(path, "last")
    assert path.stat().st_size > append_only.READ_BYTES
    assert append_only.last(path) == "last"


def test_bytes_that_are_not_text_are_read_as_an_invalid_line(path: Path) -> None:
    append_only.append(path, "one")
    with path.open("ab") as file:
        file.write(b"\xff\n\n")
    assert list(append_only.read(path)) == ["one", "\ufffd"]
