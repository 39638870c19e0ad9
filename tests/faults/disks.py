"""Disk failures: a small disk that can be full or read-only, and `strace`, which makes single system calls fail."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.faults.harness.processes import send
from tests.waiting import eventually

STRACE = shutil.which("strace")
DETACH_SECONDS = 3


class Disk:
    """A small disk: ext4 in a file, mounted on a new folder. It can be full, and break under a running service."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        """Raise CalledProcessError if this machine does not let its root mount a disk."""
        self.folder = folder
        self._image = folder.with_suffix(".img")
        folder.mkdir()
        _run("truncate", "-s", f"{megabytes}m", self._image)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-J", "size=4", self._image)
        self._mount()
        folder.chmod(0o700)
        (folder / "lost+found").rmdir()

    @staticmethod
    def is_possible() -> bool:
        """Whether the caller may try to mount a disk."""
        return os.geteuid() == 0 and all(map(shutil.which, ("mount", "mkfs.ext4")))

    def fill(self) -> None:
        """Write until no byte is free."""
        with suppress(OSError), (self.folder / "filling").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        """Remove what filled the disk."""
        (self.folder / "filling").unlink(missing_ok=True)

    def make_read_only(self, writers: Iterable[int] = ()) -> None:
        """Break the disk, as an error in its journal does: from now on each write fails, also to an open file.

        The processes that write pause meanwhile, with everything on the disk. Otherwise Linux can report a sync as done
        although it failed (docs/explanation/promises.md).
        """
        paused = [pid for pid in writers if send(pid, signal.SIGSTOP)]
        try:
            _run("sync", "-f", self.folder)
            _run("mount", "-o", "remount,abort", self.folder)
        finally:
            for pid in paused:
                send(pid, signal.SIGCONT)

    def make_writable(self) -> None:
        """Repair the disk. Each process that uses it must have ended, or end soon."""
        eventually(lambda: subprocess.run(["umount", self.folder], check=False, capture_output=True).returncode == 0)
        self._mount()

    def close(self) -> None:
        """Unmount the disk and remove it."""
        _run("umount", "--lazy", self.folder)
        self._image.unlink()

    def _mount(self) -> None:
        _run("mount", "-o", "loop,errors=remount-ro", self._image, self.folder)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def failing_calls(pid: int, path: Path, calls: str, fault: str) -> Iterator[None]:
    """Inside this context, a process's `calls` on a file fail with `fault` (`error=EIO`, `error=ENOSPC:when=1`).

    `when` counts separately in each thread. Leaving the context repairs the disk; the process keeps running.
    """
    assert STRACE, "strace is missing; .ci/tools installs it"
    said = path.with_name("strace.out")
    command = [STRACE, "-f", "-p", str(pid), "-P", str(path), "-e", f"trace={calls}", "-e", f"inject={calls}:{fault}"]
    with said.open("wb") as out:
        tracer = subprocess.Popen([*command, "-o", "/dev/null"], stdout=out, stderr=out)
    try:
        eventually(lambda: "attached" in said.read_text() or tracer.poll() is not None)
        assert tracer.poll() is None, said.read_text()
        yield
    finally:
        _detach(tracer)


def _detach(tracer: "subprocess.Popen[bytes]") -> None:
    """Detach from the traced process. If that process was killed meanwhile, the tracer may never exit by itself."""
    if tracer.poll() is None:
        tracer.send_signal(signal.SIGINT)
    try:
        tracer.wait(DETACH_SECONDS)
    except subprocess.TimeoutExpired:
        tracer.kill()
        tracer.wait()
