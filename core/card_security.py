"""How a card's number and CVC are kept: sealed, digested, derived; and where the keys for that come from."""

import hmac
import os
from collections.abc import Mapping
from hashlib import sha256
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core.domain.cards import CVC_DIGITS
from core.key_derivation import derive_key
from core.key_files import kept_secret, new_secret, parse_keys, replace_secret, write_keys
from core.settings import Settings, SettingsError

NONCE_BYTES = 12


class CardKeyError(SettingsError):
    """Cards that the keys at hand do not fit; the message is one line for an operator. Nothing was lost by it."""


class CardKeys:
    """The keys that seal card numbers, by version. The newest seals; all of them open."""

    def __init__(self, secrets: Mapping[int, str]) -> None:
        self.newest = max(secrets)
        self._ciphers = {
            version: AESGCM(derive_key(secret, f"card number {version}")) for version, secret in secrets.items()
        }

    @property
    def versions(self) -> frozenset[int]:
        """Every version that can be opened."""
        return frozenset(self._ciphers)

    def seal(self, number: str, card_id: UUID) -> bytes:
        """Seal a card's number with the newest key: nonce, ciphertext, tag (AES-256-GCM, NIST SP 800-38D).

        The card's id is authenticated with it, so that a sealed number cannot be moved to another card.
        """
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._ciphers[self.newest].encrypt(nonce, number.encode(), card_id.bytes)

    def open(self, sealed: bytes, version: int, card_id: UUID) -> str:
        """Open a card's number; raises CardKeyError where the key is not here, or is not the one that sealed it."""
        if version not in self._ciphers:
            raise CardKeyError(f"there are cards sealed with key version {version}, which is not among the card keys")
        try:
            opened = self._ciphers[version].decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], card_id.bytes)
        except InvalidTag:
            raise CardKeyError(
                f"card {card_id} cannot be opened with card key version {version}: it was sealed with another secret"
            ) from None
        return opened.decode()


class CardVault:
    """All that a process needs to know to issue cards: the sealing keys, the blind index, the CVC.

    Made once, at a start: raises SettingsError for keys that are none. Keys that lie in the data folder are made there
    with the first use.
    """

    def __init__(self, settings: Settings) -> None:
        self.keys_are_kept = settings.card_keys is None
        """Whether the sealing keys lie in the data folder, where they can be rotated; otherwise they are a setting."""
        self.path = settings.card_keys_path
        self._given = settings.card_keys.get_secret_value() if settings.card_keys else ""
        if self.keys_are_kept:
            kept_secret(self.path, lambda: write_keys({1: new_secret()}))
        self._index_key = derive_key(settings.card_index_secret, "card blind index")
        self._cvc_key = derive_key(settings.card_index_secret, "card cvc")
        self._text: str | None = None
        self.keys()

    def keys(self) -> CardKeys:
        """The sealing keys as they are now. To write with them, ask inside the unit of work that writes.

        The file is read each time: a rotation changes it inside units of work, whose turnstile lets one process in
        after the other. So a unit of work that seals comes either before the rotation added its key, and the rotation
        finds the card; or after, and finds the key.
        """
        text = self._read()
        if text != self._text:
            self._keys, self._text = CardKeys(self._parse(text)), text
        return self._keys

    def add_key(self) -> None:
        """Keep a new key, one version above the newest. Only inside a unit of work."""
        secrets = self._parse(self._read())
        replace_secret(self.path, write_keys(secrets | {max(secrets) + 1: new_secret()}))

    def drop_older_keys(self) -> None:
        """Keep the newest key only. Only inside a unit of work, and when no card needs an older one."""
        secrets = self._parse(self._read())
        newest = max(secrets)
        if len(secrets) > 1:
            replace_secret(self.path, write_keys({newest: secrets[newest]}))

    def index(self, number: str) -> bytes:
        """Digest a number so that its card can be found, and found again, by who has the key (HMAC-SHA256)."""
        return hmac.digest(self._index_key, number.encode(), sha256)

    def cvc(self, number: str, expiry: str) -> str:
        """Derive the CVC of a card; it is never stored."""
        digest = hmac.digest(self._cvc_key, f"{number}|{expiry}".encode(), sha256)
        return f"{int.from_bytes(digest) % 10**CVC_DIGITS:0{CVC_DIGITS}d}"

    def is_cvc(self, number: str, expiry: str, cvc: str) -> bool:
        """Say whether a CVC is that of a card, by deriving it again."""
        return hmac.compare_digest(self.cvc(number, expiry).encode(), cvc.encode("utf-8", "surrogatepass"))

    def _read(self) -> str:
        if not self.keys_are_kept:
            return self._given
        try:
            return self.path.read_text().strip()
        except OSError as error:
            raise CardKeyError(f"cannot read the card keys in {self.path} ({error.strerror})") from None

    def _parse(self, text: str) -> dict[int, str]:
        try:
            return parse_keys(text)
        except ValueError as error:
            raise CardKeyError(f"{self.path} holds no card keys: {error}; restore it from a backup") from None
