"""Files that survive a power cut. These tests check that the kernel is asked to sync; tests/faults cut the power."""

import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from core.files import durable


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The inodes of the files and folders that the kernel was asked to sync, in order."""
    inodes: list[int] = []
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        inodes.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    return inodes


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir], ids=["file", "folder"])
def test_a_file_and_a_folder_are_synced_alike(tmp_path: Path, synced: list[int], make: Callable[[Path], None]) -> None:
    path = tmp_path / "made"
    make(path)
    durable.sync(path)
    assert synced == [path.stat().st_ino]


def test_a_written_file_is_synced_and_is_readable_by_its_owner_only(tmp_path: Path, synced: list[int]) -> None:
    path = tmp_path / "written"
    durable.write(path, b"text")
    assert path.read_bytes() == b"text"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert synced == [path.stat().st_ino]


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "written"
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        durable.write(path, b"new")
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("change", [durable.create, durable.replace])
def test_content_is_synced_before_the_name_and_no_draft_is_left(
    tmp_path: Path, synced: list[int], change: Callable[[Path, bytes], None]
) -> None:
    path = tmp_path / "made"
    change(path, b"text")
    assert path.read_bytes() == b"text"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert synced == [path.stat().st_ino, tmp_path.stat().st_ino]
    assert list(tmp_path.iterdir()) == [path]


def test_creating_an_existing_file_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "made"
    path.write_bytes(b"old")
    durable.create(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_several_threads_create_at_once_has_the_content_of_one(tmp_path: Path) -> None:
    path, start = tmp_path / "made", Barrier(8)

    def create(number: int) -> bytes:
        start.wait()
        durable.create(path, bytes([number]))
        return path.read_bytes()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(create, range(8)))) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_replaced_file_has_the_new_content(tmp_path: Path) -> None:
    path = tmp_path / "made"
    path.write_bytes(b"the old content, which is longer")
    durable.replace(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]
