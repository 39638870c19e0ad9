"""Files and names that survive a power cut. Files made here have mode 0600.

Not for an open SQLite database: closing a descriptor of its file drops its locks.
"""

import os
import secrets
from contextlib import suppress
from pathlib import Path


def sync(path: Path) -> None:
    """Make the content of a file, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(path: Path, data: bytes) -> None:
    """Write a new file. Its content survives a power cut; its name does so after `sync` of its folder.

    Raises FileExistsError if the file exists.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def create(path: Path, data: bytes) -> None:
    """Create a file that is never visible half written. If the file exists, or another process is first, keep that."""
    draft = _draft(path, data)
    with suppress(FileExistsError):
        path.hardlink_to(draft)
    draft.unlink()
    sync(path.parent)


def replace(path: Path, data: bytes) -> None:
    """Replace the content of a file. Readers find either the old or the new content, even after a power cut."""
    _draft(path, data).replace(path)
    sync(path.parent)


def _draft(path: Path, data: bytes) -> Path:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    write(draft, data)
    return draft
