"""Secrets in the data folder, and keys by version. Files have mode 0600 and are never visible half written."""

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from core.files.durable import sync_folder


def new_secret() -> str:
    """Make a secret of 48 random bytes, as text without commas."""
    return secrets.token_urlsafe(48)


def kept_secret(path: Path, make: Callable[[], str] = new_secret) -> str:
    """Read a secret, or create it at the first use. If two processes create it, the first wins and both read that."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = _draft(path, make())
        with suppress(FileExistsError):
            path.hardlink_to(draft)
        draft.unlink()
        sync_folder(path)
    return path.read_text().strip()


def replace_secret(path: Path, text: str) -> None:
    """Replace the text of a secret. Readers find either the old or the new text, even after a power cut."""
    _draft(path, text).replace(path)
    sync_folder(path)


def _draft(path: Path, text: str) -> Path:
    """Write a whole text durably to a new file next to `path`, and return the file's path."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return draft
