"""Anchoring: signing the newest block, and writing the anchor where the database's owner cannot change it."""

from pathlib import Path

from core.clock import now_us
from core.domain.anchors import Anchor, from_line, to_line
from core.files import append_only
from core.security.anchor_key import AnchorKey
from core.storage import blocks
from core.storage.engines import Engine


def anchor_head(database: Engine, key: AnchorKey, path: Path) -> Anchor | None:
    """Sign the newest block and append the anchor to the file. Returns None if the last anchor is the same.

    Raises OSError if the file cannot be written, and Unavailable if the chain has no head.
    """
    with database.reading() as connection:
        head = blocks.head(connection)
    before = last_anchor(path)
    if before is not None and (before.height, before.hash, before.public_key) == (head.height, head.hash, key.public):
        return None
    anchor = key.sign(head.height, head.hash, now_us())
    append_only.append(path, to_line(anchor))
    return anchor


def last_anchor(path: Path) -> Anchor | None:
    """Read the last anchor of a file; None if the file is missing or empty, or its last line is invalid."""
    line = append_only.last(path)
    try:
        return from_line(line) if line is not None else None
    except ValueError:
        return None
