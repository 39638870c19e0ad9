"""Fingerprints of the keys that a backup needs but does not contain. They tell keys apart without revealing them."""

import hmac
from collections.abc import Callable, Iterator
from hashlib import sha256

from core.clock import now_us
from core.security.secrets import KeptSecret, Secrets
from core.settings import SettingsError
from core.settings.key_lists import parse_keys, parse_token_keys

CARD_KEY = "card_key_"
"""Followed by the version of the key."""
CARD_INDEX_KEY = "card_index_key"
JWT_SECRET = "jwt_secret"
"""The key that signs access tokens. If its version is above 1, `_` and the version follow the name."""
ANCHOR_KEY = "anchor_key"
BACKUP_KEY = "backup_key"

_HEX_DIGITS = 16


def fingerprints(secrets: Secrets) -> dict[str, str]:
    """Fingerprint every key that is a setting or is in the data folder, by name.

    Missing keys are not made, because another process may have them. Raises SettingsError for a file that does not
    contain valid keys.
    """
    return {name: fingerprint(key.encode()) for name, key in _keys(secrets)}


def fingerprint(key: bytes) -> str:
    """Digest a key. This does not help to guess it: guesses can be tested on signed or sealed data just as well."""
    return hmac.digest(b"giro key fingerprint", key, sha256).hex()[:_HEX_DIGITS]


def _keys(secrets: Secrets) -> Iterator[tuple[str, str]]:
    for version, secret in (_parsed(parse_keys, secrets.card_keys) or {}).items():
        yield f"{CARD_KEY}{version}", secret
    if index_key := secrets.card_index_key.find():
        yield CARD_INDEX_KEY, index_key
    now = now_us() // 1_000_000
    for key in _parsed(parse_token_keys, secrets.token_keys) or ():
        if key.is_accepted(now):
            yield JWT_SECRET if key.version == 1 else f"{JWT_SECRET}_{key.version}", key.secret
    if anchor_key := secrets.anchor_key.find():
        yield ANCHOR_KEY, anchor_key
    if backup_key := secrets.backup_key.find():
        yield BACKUP_KEY, backup_key


def _parsed[Keys](parse: Callable[[str], Keys], secret: KeptSecret) -> Keys | None:
    text = secret.find()
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise SettingsError(f"{secret.path} contains no valid keys: {error}") from None
