"""Device tokens: the sign that a user has logged in on a device before. They give no access."""

from hashlib import blake2b, sha256
from hmac import compare_digest
from secrets import token_urlsafe
from typing import NamedTuple
from uuid import UUID

from itsdangerous import BadData, URLSafeSerializer

from core.clock import now_us
from core.security.derivation import derive_key

DEVICE_BYTES = 12
MARK_BYTES = 12

LONGEST_TOKEN = 512
"""Maximum length in characters. Our tokens have about 180."""

_DAY_US = 86_400 * 1_000_000


class Device(NamedTuple):
    """What a device token says. Only `DeviceTokens.is_of` tells whether it is valid for a user."""

    name: str
    user_id: str
    issued_at: int
    mark: str


class DeviceTokens:
    """Signs and reads device tokens, which choose the count of failed log-ins (api/throttling).

    A token names a user, a random device, its time, and the password that it was issued under. So it ends after `days`
    and with a change of the password, and nobody can make one for another user. Like cursors, device tokens have a key
    that is derived from a secret that is never rotated. A restore of a backup ends those issued before: `since` is its
    time, in microseconds since the epoch.
    """

    def __init__(self, secret: str, *, days: int, since: int = 0) -> None:
        self._mark_key = derive_key(secret, "device password")
        # By default the library signs with SHA-1.
        sha256_only = {"digest_method": sha256, "key_derivation": "hmac"}
        key = derive_key(secret, "device")
        self._serializer = URLSafeSerializer(key, salt="device", signer_kwargs=sha256_only)
        self._life_us = days * _DAY_US
        self._since = since

    def issue(self, user_id: UUID, password_hash: str) -> str:
        """Make the token of a new device, for a user whose password has this stored hash."""
        device = Device(token_urlsafe(DEVICE_BYTES), user_id.hex, now_us(), self._mark(password_hash))
        token = self._serializer.dumps(list(device))
        return token if isinstance(token, str) else token.decode()

    def read(self, token: str) -> Device | None:
        """Return what a token says. None if it was not made here, is too old, or is from before the last restore."""
        if len(token) > LONGEST_TOKEN:
            return None
        try:
            device = Device(*self._serializer.loads(token))
        except (BadData, ValueError):
            return None
        return device if device.issued_at > max(now_us() - self._life_us, self._since) else None

    def is_of(self, device: Device, user_id: UUID, password_hash: str) -> bool:
        """Return whether a device is this user's, and the password has not changed since."""
        return compare_digest(device.user_id, user_id.hex) and compare_digest(device.mark, self._mark(password_hash))

    def _mark(self, password_hash: str) -> str:
        """Return a keyed digest of a stored hash, from which the hash cannot be found."""
        return blake2b(password_hash.encode(), key=self._mark_key, digest_size=MARK_BYTES).hexdigest()
