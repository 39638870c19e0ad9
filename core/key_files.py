"""Secrets in the data folder, and keys by version. Files have mode 0600 and are never visible half written."""

import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SHORTEST_KEY_BYTES = 32
LARGEST_VERSION = 10**9


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


def parse_keys(text: str) -> dict[int, str]:
    """Read keys in their stored form: `version:secret`, comma separated, newest first.

    Raises ValueError for invalid keys. The message never repeats a secret.
    """
    keys: dict[int, str] = {}
    for place, item in enumerate(text.split(","), 1):
        version, colon, secret = item.strip().partition(":")
        if not colon or not (version.isascii() and version.isdigit()):
            raise ValueError(f"item {place} must be `version:secret` with a whole number as version")
        if not 1 <= int(version) <= LARGEST_VERSION:
            raise ValueError(f"the version of item {place} must be from 1 to {LARGEST_VERSION}")
        if keys and int(version) >= min(keys):
            raise ValueError("versions must decrease: the newest key comes first")
        if len(secret.encode()) < SHORTEST_KEY_BYTES:
            raise ValueError(f"the secret of version {int(version)} needs at least {SHORTEST_KEY_BYTES} bytes")
        keys[int(version)] = secret
    return keys


def write_keys(keys: Mapping[int, str]) -> str:
    """Write keys in the form that `parse_keys` reads."""
    return ",".join(f"{version}:{keys[version]}" for version in sorted(keys, reverse=True))


_IS_LIST = re.compile(r"\s*\d+(@[^:]*)?:", re.ASCII)
_UNTIL = re.compile(r"((?:^|,)\s*(\d+))@(\d{1,12})(?=:)", re.ASCII)


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A key that signs access tokens, or has signed them."""

    version: int
    secret: str
    until: int | None = None
    """End of its acceptance, in seconds since the epoch. None if it has no end."""

    @property
    def kid(self) -> str:
        """The name of the key in a token's header (`kid`, RFC 7515, 4.1.4)."""
        return str(self.version)

    def is_accepted(self, now: int) -> bool:
        """Return whether tokens that it signed are accepted at a time in seconds since the epoch."""
        return self.until is None or now < self.until


def parse_token_keys(text: str) -> tuple[TokenKey, ...]:
    """Read the keys in the text of `JWT_SECRET` or of its file, newest key first.

    The text is one secret, which becomes version 1, or several keys in the form of `parse_keys`. The older ones may
    have an end of their acceptance, in seconds since the epoch: `version@second:secret`. Raises ValueError for invalid
    keys. The message never repeats a secret.
    """
    if not _IS_LIST.match(text):
        if len(text.encode()) < SHORTEST_KEY_BYTES:
            raise ValueError(f"needs at least {SHORTEST_KEY_BYTES} bytes")
        return (TokenKey(1, text),)
    until = {int(version): int(second) for _, version, second in _UNTIL.findall(text)}
    keys = parse_keys(_UNTIL.sub(r"\1", text))
    if max(keys) in until:
        raise ValueError("the newest key signs, so it cannot have an end")
    return tuple(TokenKey(version, secret, until.get(version)) for version, secret in keys.items())


def write_token_keys(keys: Sequence[TokenKey]) -> str:
    """Write keys in the form that `parse_token_keys` reads."""
    return ",".join(f"{key.version}{'' if key.until is None else f'@{key.until}'}:{key.secret}" for key in keys)


def _draft(path: Path, text: str) -> Path:
    """Write a whole text durably to a new file next to `path`, and return the file's path."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return draft


def sync_folder(path: Path) -> None:
    """Make a new file name durable: sealed data must not be on the disk without its key after a power cut."""
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
