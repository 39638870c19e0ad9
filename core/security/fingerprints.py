"""Fingerprints of the keys that a backup needs but does not contain. They tell keys apart without revealing them."""

import hmac
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

from pydantic import SecretStr

from core.clock import now_us
from core.settings import Settings, SettingsError
from core.settings.key_lists import parse_keys, parse_token_keys

CARD_KEY = "card_key_"
"""Followed by the version of the key."""
CARD_INDEX_KEY = "card_index_key"
JWT_SECRET = "jwt_secret"
"""The key that signs access tokens. If its version is above 1, `_` and the version follow the name."""
ANCHOR_KEY = "anchor_key"

_HEX_DIGITS = 16


def fingerprints(settings: Settings) -> dict[str, str]:
    """Fingerprint every key that is a setting or is in the data folder, by name.

    Missing keys are not made, because another process may have them. Raises SettingsError for a file that does not
    contain valid keys.
    """
    return {name: fingerprint(key) for name, key in _keys(settings)}


def fingerprint(key: bytes) -> str:
    """Digest a key. This does not help to guess it: guesses can be tested on signed or sealed data just as well."""
    return hmac.digest(b"giro key fingerprint", key, sha256).hex()[:_HEX_DIGITS]


def _keys(settings: Settings) -> Iterator[tuple[str, bytes]]:
    folder = settings.data_dir / "secrets"
    if card_keys := _given(settings.card_keys, settings.card_keys_path):
        for version, secret in _parsed(parse_keys, card_keys, settings.card_keys_path).items():
            yield f"{CARD_KEY}{version}", secret.encode()
    if index_key := _given(settings.card_index_key, folder / "card_index_key"):
        yield CARD_INDEX_KEY, index_key
    if token_keys := _given(settings.jwt_secret, settings.jwt_secret_path):
        now = now_us() // 1_000_000
        for key in _parsed(parse_token_keys, token_keys, settings.jwt_secret_path):
            if key.is_accepted(now):
                yield JWT_SECRET if key.version == 1 else f"{JWT_SECRET}_{key.version}", key.secret.encode()
    if anchor_key := _given(settings.anchor_key, settings.anchor_key_path):
        yield ANCHOR_KEY, anchor_key


def _parsed[Keys](parse: Callable[[str], Keys], text: bytes, path: Path) -> Keys:
    try:
        return parse(text.decode())
    except ValueError as error:
        raise SettingsError(f"{path} contains no valid keys: {error}") from None


def _given(setting: SecretStr | None, path: Path) -> bytes:
    if setting is not None:
        return setting.get_secret_value().encode()
    return path.read_bytes().strip() if path.exists() else b""
