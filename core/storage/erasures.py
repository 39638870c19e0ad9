"""The file of erased users: one public id per line, append-only.

It is not in the database, because a backup from before an erasure would not contain it.
"""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from core.storage import anchors


def append(path: Path, user_id: UUID) -> None:
    """Append a user, and return when the line is on disk. Raises OSError."""
    anchors.append(path, str(user_id))


def read(path: Path) -> Iterator[UUID]:
    """Read the users in the file, in order. A missing file has no users. Raises ValueError for an invalid id."""
    return map(UUID, anchors.read(path))
