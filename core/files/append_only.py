"""Text files that only ever grow, one line for each entry: signed anchors, erased users.

A line is on disk before the caller continues. A power cut can tear the last line; the next append ends it.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from core.files import durable

READ_BYTES = 1 << 16


def append(path: Path, line: str) -> None:
    """Append a line, and return when it is on disk. If a power cut tore the last line, that line is ended first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    is_new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, f"{'\n' if torn else ''}{line}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if is_new:
        durable.sync(path.parent)


def read(path: Path) -> Iterator[str]:
    """Read the lines, oldest first. A missing file has no lines."""
    if not path.exists():
        return
    with path.open(encoding="ascii", errors="replace") as file:
        for line in file:
            if line.strip():
                yield line.strip()


def last(path: Path) -> str | None:
    """Read the last complete line without reading all earlier ones; None if there is no such line."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - READ_BYTES))
        lines = file.read().decode("ascii", errors="replace").split("\n")[:-1]
    return next((line.strip() for line in reversed(lines) if line.strip()), None)
