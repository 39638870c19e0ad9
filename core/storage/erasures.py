"""The file of those who were erased: one public id a line, only ever appended to.

Beside the database and not in it, since a backup of before an erasure knows nothing of it.
"""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

from core.storage import anchors


def append(path: Path, user_id: UUID) -> None:
    """Add a user, and have the line on the disk before this returns. Raises OSError."""
    anchors.append(path, str(user_id))


def read(path: Path) -> Iterator[UUID]:
    """Read whom the file lists, in their order; none where there is no file. Raises ValueError for what is no id."""
    return map(UUID, anchors.read(path))
