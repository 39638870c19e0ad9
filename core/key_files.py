"""Secrets that lie in the data folder, and keys by version. Files have mode 0600, and are never seen half written."""

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
    """Draw a secret of 48 random bytes, as text without commas."""
    return secrets.token_urlsafe(48)


def kept_secret(path: Path, make: Callable[[], str] = new_secret) -> str:
    """Read a secret, and make it with the first use. The first of two processes wins, and both read the same."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = _draft(path, make())
        with suppress(FileExistsError):
            path.hardlink_to(draft)
        draft.unlink()
        sync_folder(path)
    return path.read_text().strip()


def replace_secret(path: Path, text: str) -> None:
    """Put another text in a secret's place: readers find the old one or the new one, after a power cut as well."""
    _draft(path, text).replace(path)
    sync_folder(path)


def parse_keys(text: str) -> dict[int, str]:
    """Read keys as they are kept: `version:secret`, comma separated, newest first.

    Raises ValueError, which never repeats a secret.
    """
    keys: dict[int, str] = {}
    for place, item in enumerate(text.split(","), 1):
        version, colon, secret = item.strip().partition(":")
        if not colon or not (version.isascii() and version.isdigit()):
            raise ValueError(f"item {place} is not `version:secret` with a whole number as version")
        if not 1 <= int(version) <= LARGEST_VERSION:
            raise ValueError(f"the version of item {place} is not from 1 to {LARGEST_VERSION}")
        if keys and int(version) >= min(keys):
            raise ValueError("versions must go down: the newest key comes first")
        if len(secret.encode()) < SHORTEST_KEY_BYTES:
            raise ValueError(f"the secret of version {int(version)} needs at least {SHORTEST_KEY_BYTES} bytes")
        keys[int(version)] = secret
    return keys


def write_keys(keys: Mapping[int, str]) -> str:
    """Write keys as `parse_keys` reads them."""
    return ",".join(f"{version}:{keys[version]}" for version in sorted(keys, reverse=True))


_IS_LIST = re.compile(r"\s*\d+(@[^:]*)?:", re.ASCII)
_UNTIL = re.compile(r"((?:^|,)\s*(\d+))@(\d{1,12})(?=:)", re.ASCII)


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A key that signs access tokens, or did."""

    version: int
    secret: str
    until: int | None = None
    """Second since the epoch from which on it is accepted no more; None while nobody has set one."""

    @property
    def kid(self) -> str:
        """What a token's header calls it (`kid`, RFC 7515, 4.1.4)."""
        return str(self.version)

    def is_accepted(self, now: int) -> bool:
        """Say whether tokens that it signed are accepted, at a second since the epoch."""
        return self.until is None or now < self.until


def parse_token_keys(text: str) -> tuple[TokenKey, ...]:
    """Read what `JWT_SECRET` or its file says, newest key first.

    One secret, which is version 1; or several as `parse_keys` reads them, where the older ones may say until when they
    are accepted: `version@second:secret`. Raises ValueError, which never repeats a secret.
    """
    if not _IS_LIST.match(text):
        if len(text.encode()) < SHORTEST_KEY_BYTES:
            raise ValueError(f"needs at least {SHORTEST_KEY_BYTES} bytes")
        return (TokenKey(1, text),)
    until = {int(version): int(second) for _, version, second in _UNTIL.findall(text)}
    keys = parse_keys(_UNTIL.sub(r"\1", text))
    if max(keys) in until:
        raise ValueError("the newest key signs, and cannot have an end")
    return tuple(TokenKey(version, secret, until.get(version)) for version, secret in keys.items())


def write_token_keys(keys: Sequence[TokenKey]) -> str:
    """Write keys as `parse_token_keys` reads them."""
    return ",".join(f"{key.version}{'' if key.until is None else f'@{key.until}'}:{key.secret}" for key in keys)


def _draft(path: Path, text: str) -> Path:
    """Write a text whole, and to the disk, under a name of its own beside `path`."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return draft


def sync_folder(path: Path) -> None:
    """Have a new name outlive a power cut: what is sealed with a key must not be on the disk without it."""
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
