"""The keys that sign access tokens, by version. The newest signs; older ones are accepted until their tokens expire."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from core.clock import now_us
from core.security.secrets import Secrets, new_secret
from core.settings import SettingsError
from core.settings.key_lists import TokenKey, parse_token_keys, write_token_keys
from core.telemetry.logging import get_logger

log = get_logger(__name__)

LOOK_SECONDS = 1.0
"""A process checks at least this often whether the keys have changed."""

MARGIN_SECONDS = 60
"""An older key is accepted for this long after the last token that it can have signed has expired."""


class TokenRing:
    """The keys at one moment. A ring never changes; a new ring replaces it."""

    def __init__(self, keys: Sequence[TokenKey]) -> None:
        self.keys = tuple(keys)
        self.signing = keys[0]
        self._by_kid = {key.kid: key for key in keys}

    def find(self, kid: str, now: int) -> TokenKey | None:
        """Find a key by the `kid` of a token's header. Returns None if it is unknown or no longer accepted."""
        key = self._by_kid.get(kid)
        return key if key is not None and key.is_accepted(now) else None


class TokenKeys:
    """The source of the ring: `JWT_SECRET`, or the data folder, where a rotation can change it at any time.

    The constructor raises SettingsError for invalid keys. A key that is stored in the data folder is created there at
    the first use. Not thread-safe.
    """

    def __init__(self, secrets: Secrets) -> None:
        self._secret = secrets.token_keys
        self.are_kept = self._secret.is_kept
        """Whether the keys are in the data folder, where they can be rotated. Otherwise they are a setting."""
        self.path = self._secret.path
        self._secret.read_or_make()
        self._look_at = time.monotonic() + LOOK_SECONDS
        self._identity = _identity(self.path) if self.are_kept else None
        self._ring = TokenRing(self._read())

    def ring(self, *, refresh: bool = False) -> TokenRing:
        """Return the keys, at most a second old. With `refresh`, return the current keys.

        `refresh` is for signing, and for a token with an unknown key: another process may have signed it with a new
        key. Any client can cause such a call with a made-up token, so it is cheap: it only checks whether the file has
        changed, and reads it only then.
        """
        if self.are_kept and (refresh or time.monotonic() >= self._look_at):
            self._look()
        return self._ring

    def _look(self) -> None:
        """Read the keys again if the file has changed. If that fails, keep the present keys, which are still valid."""
        self._look_at = time.monotonic() + LOOK_SECONDS
        try:
            # The identity must be read before the text. In the other order, an older text could stay forever.
            identity = _identity(self.path)
            if identity != self._identity:
                self._ring = TokenRing(self._read())
                self._identity = identity
        except (OSError, SettingsError) as error:
            log.error("token_keys_unreadable", error=str(error))

    def rotate(self, *, token_seconds: int, at_once: bool = False) -> TokenRing:
        """Add a new key, which signs from now on. Call it only inside a unit of work.

        The older keys are accepted until the tokens that they have signed have expired. A token is valid for
        `token_seconds`. `at_once` drops the older keys now; other processes accept them for at most `LOOK_SECONDS`
        more. Raises SettingsError if the keys are a setting, or if the file cannot be written.
        """
        if not self.are_kept:
            raise SettingsError("the keys that sign tokens are a setting, so change them there")
        now = now_us() // 1_000_000
        end = now + token_seconds + MARGIN_SECONDS
        present = self._read()
        older = [] if at_once else [replace(key, until=key.until or end) for key in present if key.is_accepted(now)]
        if any("," in key.secret for key in older):
            raise SettingsError(f"{self.path} has a secret with a comma, which cannot be combined with another secret")
        new = TokenKey(present[0].version + 1, new_secret())
        try:
            self._secret.replace(write_token_keys([new, *older]))
        except OSError as error:
            raise SettingsError(f"cannot write {self.path} ({error.strerror}); nothing was changed") from None
        return self.ring(refresh=True)

    def _read(self) -> tuple[TokenKey, ...]:
        try:
            return parse_token_keys(self._secret.read())
        except ValueError as error:
            raise SettingsError(
                f"{self.path} has no valid key that signs tokens: {error}; delete it, and a new one is made"
            ) from None


def _identity(path: Path) -> object:
    """Return what distinguishes a file from its replacement: inode, time of the last change, and size."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size
