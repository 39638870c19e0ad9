"""The keys that sign access tokens, by version: the newest signs, older ones are accepted until their tokens end."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from core.clock import now_us
from core.key_files import TokenKey, kept_secret, new_secret, parse_token_keys, replace_secret, write_token_keys
from core.logging import get_logger
from core.settings import Settings, SettingsError

log = get_logger(__name__)

LOOK_SECONDS = 1.0
"""How long a process may go on without looking whether the keys have changed."""

MARGIN_SECONDS = 60
"""Time that an older key is accepted for beyond the life of the last token that it can have signed."""


class TokenRing:
    """The keys at one moment. It never changes: another ring takes its place."""

    def __init__(self, keys: Sequence[TokenKey]) -> None:
        self.keys = tuple(keys)
        self.signing = keys[0]
        self._by_kid = {key.kid: key for key in keys}

    def find(self, kid: str, now: int) -> TokenKey | None:
        """Look a key up by what a token's header calls it; None for one that is not here, or not any more."""
        key = self._by_kid.get(kid)
        return key if key is not None and key.is_accepted(now) else None


class TokenKeys:
    """Where a process finds the ring: `JWT_SECRET`, or the data folder, where a rotation changes it at any time.

    Raises SettingsError, at a start, for keys that are none. A key that lies in the data folder is made there with the
    first use. Not for several threads at once.
    """

    def __init__(self, settings: Settings) -> None:
        self.are_kept = settings.jwt_secret is None
        """Whether the keys lie in the data folder, where they can be rotated; otherwise they are a setting."""
        self.path = settings.jwt_secret_path
        self._identity: object = None
        self._look_at = 0.0
        if settings.jwt_secret is None:
            kept_secret(self.path)
            self._look_at = time.monotonic() + LOOK_SECONDS
            self._identity = _identity(self.path)
            self._ring = TokenRing(_read(self.path))
        else:
            self._ring = TokenRing(parse_token_keys(settings.jwt_secret.get_secret_value()))

    def ring(self, *, anew: bool = False) -> TokenRing:
        """The keys as they were a second ago at most; with `anew`, as they are now.

        `anew` is for signing, and for a token whose key is not here: another process may have signed it with a key that
        was made a moment ago. Anybody can ask for that with made-up tokens, so it costs no more than asking the file
        system whether the file is another one; only then is it read.
        """
        if self.are_kept and (anew or time.monotonic() >= self._look_at):
            self._look()
        return self._ring

    def _look(self) -> None:
        """Take up keys that have changed. What cannot be read changes nothing: the keys at hand are still good."""
        self._look_at = time.monotonic() + LOOK_SECONDS
        try:
            # First which file it is, and then what it says: the other way round, an older text could stay for good.
            identity = _identity(self.path)
            if identity != self._identity:
                self._ring = TokenRing(_read(self.path))
                self._identity = identity
        except (OSError, SettingsError) as error:
            log.error("token_keys_unreadable", error=str(error))

    def rotate(self, *, token_seconds: int, at_once: bool = False) -> TokenRing:
        """Keep a new key, which signs from now on. Only for kept keys, and only inside a unit of work.

        The older ones are accepted until the tokens that they have signed, which live for `token_seconds`, have ended;
        `at_once` drops them now, and other processes accept them for `LOOK_SECONDS` more, at most.
        """
        if not self.are_kept:
            raise SettingsError("the keys that sign tokens are a setting, and rotated there")
        now = now_us() // 1_000_000
        end = now + token_seconds + MARGIN_SECONDS
        present = _read(self.path)
        older = [] if at_once else [replace(key, until=key.until or end) for key in present if key.is_accepted(now)]
        if any("," in key.secret for key in older):
            raise SettingsError(f"{self.path} holds a secret with a comma, which cannot stand beside another one")
        new = TokenKey(present[0].version + 1, new_secret())
        try:
            replace_secret(self.path, write_token_keys([new, *older]))
        except OSError as error:
            raise SettingsError(f"cannot write {self.path} ({error.strerror}); nothing was changed") from None
        return self.ring(anew=True)


def _identity(path: Path) -> object:
    """What tells a file from the one that takes its place."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read(path: Path) -> tuple[TokenKey, ...]:
    try:
        return _parse(path.read_text().strip(), path)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {path} ({getattr(error, 'strerror', 'it is no text')})") from None


def _parse(text: str, path: Path) -> tuple[TokenKey, ...]:
    try:
        return parse_token_keys(text)
    except ValueError as error:
        raise SettingsError(
            f"{path} holds no key that signs tokens: {error}; delete it, and a new one is made"
        ) from None
