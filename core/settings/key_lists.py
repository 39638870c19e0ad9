"""Keys as settings and files hold them: `version:secret`, newest first."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SHORTEST_KEY_BYTES = 32
LARGEST_VERSION = 10**9


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
