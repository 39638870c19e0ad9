"""Fingerprints of the keys that a backup needs and does not hold: they tell keys apart, and tell nothing of them."""

import hmac
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from pydantic import SecretStr

from core.key_files import parse_keys
from core.settings import Settings, SettingsError

CARD_KEY = "card_key_"
"""Followed by the version of the key."""
CARD_INDEX_KEY = "card_index_key"
JWT_SECRET = "jwt_secret"
ANCHOR_KEY = "anchor_key"

_HEX_DIGITS = 16


def fingerprints(settings: Settings) -> dict[str, str]:
    """Fingerprint every key that is a setting or lies in the data folder, by name.

    None is made: one that is not here may be given to another process. Raises SettingsError for card
    keys that are none.
    """
    try:
        return {name: fingerprint(key) for name, key in _keys(settings)}
    except ValueError as error:
        raise SettingsError(f"{settings.card_keys_path} holds no card keys: {error}") from None


def fingerprint(key: bytes) -> str:
    """Digest a key; whoever guesses keys could as well guess at what they sign or seal."""
    return hmac.digest(b"giro key fingerprint", key, sha256).hex()[:_HEX_DIGITS]


def _keys(settings: Settings) -> Iterator[tuple[str, bytes]]:
    folder = settings.data_dir / "secrets"
    if card_keys := _given(settings.card_keys, settings.card_keys_path):
        for version, secret in parse_keys(card_keys.decode()).items():
            yield f"{CARD_KEY}{version}", secret.encode()
    for name, key in (
        (CARD_INDEX_KEY, _given(settings.card_index_key, folder / "card_index_key")),
        (JWT_SECRET, _given(settings.jwt_secret, folder / "jwt_secret")),
        (ANCHOR_KEY, _given(settings.anchor_key, folder / "anchor_key")),
    ):
        if key:
            yield name, key


def _given(setting: SecretStr | None, path: Path) -> bytes:
    if setting is not None:
        return setting.get_secret_value().encode()
    return path.read_bytes().strip() if path.exists() else b""
