"""The file of excluded users: one line for each time that a user lost access (`out`) or got it back (`in`).

It is not in the database, because a backup from before a user was deactivated would let that user in again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from core.files import append_only

OUT, IN = "out", "in"


@dataclass(frozen=True, slots=True)
class Exclusions:
    """The users whose last line is `out`, in the order of the file, and the number of lines that name no user."""

    users: tuple[UUID, ...]
    unreadable: int = 0


def append(path: Path, user_id: UUID, word: str) -> None:
    """Append a line, and return when it is on disk. Raises OSError."""
    append_only.append(path, f"{user_id} {word}")


def read(path: Path) -> Exclusions:
    """Read who is excluded. A missing file excludes nobody.

    A power cut can tear a line. Only a whole `in` lets a user in, and a line without an id is counted. Raises OSError.
    """
    last: dict[UUID, str] = {}
    unreadable = 0
    for line in append_only.read(path):
        name, _, word = line.partition(" ")
        try:
            user_id = UUID(name)
        except ValueError:
            unreadable += 1
            continue
        last.pop(user_id, None)
        last[user_id] = word
    return Exclusions(tuple(user_id for user_id, word in last.items() if word != IN), unreadable)


def newest_of(paths: Iterable[Path]) -> list[Path]:
    """Leave out missing lists, and those that another one continues: copies from an earlier time. Raises OSError."""
    kept: dict[Path, bytes] = {}
    for path in paths:
        text = path.read_bytes() if path.exists() else b""
        if not any(other.startswith(text) for other in kept.values()) and text:
            kept = {other: older for other, older in kept.items() if not text.startswith(older)} | {path: text}
    return list(kept)
