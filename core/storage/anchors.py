"""The file of anchors: one line each, only ever appended to. It belongs beside the database and not on its disk."""

import os
from collections.abc import Iterator
from pathlib import Path

from core.key_files import sync_folder

READ_BYTES = 1 << 16


def append(path: Path, line: str) -> None:
    """Add a line, and have it on the disk before this returns. A line that a power cut tore is closed off first."""
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
        sync_folder(path)


def read(path: Path) -> Iterator[str]:
    """Read the lines, oldest first; none where there is no file yet."""
    if not path.exists():
        return
    with path.open(encoding="ascii", errors="replace") as file:
        for line in file:
            if line.strip():
                yield line.strip()


def last(path: Path) -> str | None:
    """Read the last whole line without reading those before it; None where there is none."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - READ_BYTES))
        lines = file.read().decode("ascii", errors="replace").split("\n")[:-1]
    return next((line.strip() for line in reversed(lines) if line.strip()), None)
