"""Disk failures: a small disk that can be full or read-only, and `strace`, which makes single system calls fail."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.waiting import eventually

STRACE = shutil.which("strace")
DETACH_SECONDS = 3


class Disk:
    """A file system in memory with little room, mounted on a new folder. Mounting needs root."""

    def __init__(self, folder: Path, size: str = "32m") -> None:
        """Raise CalledProcessError if this machine does not let its root mount a disk."""
        self.folder = folder
        folder.mkdir(mode=0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", folder], check=True)

    @staticmethod
    def is_possible() -> bool:
        """Whether the caller may try to mount a disk."""
        return os.geteuid() == 0 and shutil.which("mount") is not None

    def fill(self) -> None:
        """Write until no byte is free."""
        with suppress(OSError), (self.folder / "filling").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        """Remove what filled the disk."""
        (self.folder / "filling").unlink(missing_ok=True)

    def make_read_only(self) -> None:
        """Let nothing be written. The kernel allows that once no process has a file open for writing."""
        eventually(lambda: self._remount("ro"))

    def make_writable(self) -> None:
        """Let files be written again."""
        assert self._remount("rw")

    def close(self) -> None:
        """Unmount the disk."""
        subprocess.run(["umount", "--lazy", self.folder], check=True)

    def _remount(self, how: str) -> bool:
        command = ["mount", "-o", f"remount,{how}", str(self.folder)]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0


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
