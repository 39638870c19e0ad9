"""File locks: closing a descriptor releases its lock, and child processes inherit none."""

import subprocess
import sys
from pathlib import Path

import pytest

from core.files.locks import FileLock
from tests.waiting import eventually


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.lock"


def test_closing_releases_a_lock(path: Path) -> None:
    first, second = FileLock(path), FileLock(path)
    first.acquire()
    assert not second.try_acquire()
    first.close()
    assert second.try_acquire()
    second.close()


def test_a_child_process_inherits_no_lock(path: Path) -> None:
    first, second = FileLock(path), FileLock(path)
    first.acquire()
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, close_fds=False) as child:
        first.close()
        assert eventually(second.try_acquire), "the kernel closes the descriptors when it starts the child's program"
        assert child.poll() is None
        assert child.stdin is not None
        child.stdin.close()
    second.close()
