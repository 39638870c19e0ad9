"""Disk failures: `strace` injects errors into the system calls of a running process."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import eventually

STRACE = shutil.which("strace")
DETACH_SECONDS = 3


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
