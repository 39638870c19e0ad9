"""The file of erased users: one public id per line, append-only.

It is not in the database, because a backup from before an erasure would not contain it.
"""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from core.files import append_only


def append(path: Path, user_id: UUID) -> None:
    """Append a user, and return when the line is on disk. Raises OSError."""
    append_only.append(path, str(user_id))


def read(path: Path) -> Iterator[UUID]:
    """Read the users in the file, in order. A missing file has no users. Raises ValueError for an invalid id."""
    return map(UUID, append_only.read(path))
