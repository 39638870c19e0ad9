"""Secrets in the data folder. Files have mode 0600 and are never visible half written."""

import secrets
from collections.abc import Callable
from pathlib import Path

from core.files import durable


def new_secret() -> str:
    """Make a secret of 48 random bytes, as text without commas."""
    return secrets.token_urlsafe(48)


def kept_secret(path: Path, make: Callable[[], str] = new_secret) -> str:
    """Read a secret, or create it at the first use. If two processes create it, the first wins and both read that."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        durable.create(path, make().encode())
    return path.read_text().strip()


def replace_secret(path: Path, text: str) -> None:
    """Replace the text of a secret."""
    durable.replace(path, text.encode())
