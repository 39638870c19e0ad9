"""Protection of card numbers and CVCs: sealing, a blind index, derivation of the CVC, and the keys for these."""

import hmac
import os
from collections.abc import Mapping
from hashlib import sha256
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core.domain.cards import CVC_DIGITS
from core.security.derivation import derive_key
from core.security.secrets import Secrets, new_secret
from core.settings import SettingsError
from core.settings.key_lists import parse_keys, write_keys

NONCE_BYTES = 12


class CardKeyError(SettingsError):
    """The available keys do not fit the cards. The message is one line for an operator. No data was lost."""


class CardKeys:
    """The keys that seal card numbers, by version. The newest key seals; all keys open."""

    def __init__(self, secrets: Mapping[int, str]) -> None:
        self.newest = max(secrets)
        self._ciphers = {
            version: AESGCM(derive_key(secret, f"card number {version}")) for version, secret in secrets.items()
        }

    @property
    def versions(self) -> frozenset[int]:
        """All versions that can be opened."""
        return frozenset(self._ciphers)

    def seal(self, number: str, card_id: UUID) -> bytes:
        """Seal a card's number with the newest key. Returns nonce, ciphertext and tag (AES-256-GCM, NIST SP 800-38D).

        The card's id is authenticated too, so a sealed number cannot be moved to another card.
        """
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._ciphers[self.newest].encrypt(nonce, number.encode(), card_id.bytes)

    def open(self, sealed: bytes, version: int, card_id: UUID) -> str:
        """Open a card's number. Raises CardKeyError if the key is missing, or is not the one that sealed the number."""
        if version not in self._ciphers:
            raise CardKeyError(f"some cards are sealed with key version {version}, which is not among the card keys")
        try:
            opened = self._ciphers[version].decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], card_id.bytes)
        except InvalidTag:
            raise CardKeyError(
                f"card {card_id} cannot be opened with card key version {version}: it was sealed with another secret"
            ) from None
        return opened.decode()


class CardVault:
    """All secrets that a process needs to issue cards: the sealing keys, and the keys of the blind index and the CVC.

    A process makes it once, at its start. Raises SettingsError for invalid keys. Keys that are stored in the data
    folder are created there at the first use.
    """

    def __init__(self, secrets: Secrets) -> None:
        self._secret = secrets.card_keys
        self.keys_are_kept = self._secret.is_kept
        """Whether the sealing keys are in the data folder, where they can be rotated. Otherwise they are a setting."""
        self.path = self._secret.path
        self._secret.read_or_make()
        index_secret = secrets.card_index_key.read_or_make()
        self._index_key = derive_key(index_secret, "card blind index")
        self._cvc_key = derive_key(index_secret, "card cvc")
        self._text: str | None = None
        self.keys()

    def keys(self) -> CardKeys:
        """Return the current sealing keys. To seal a card, call this inside the unit of work that writes it.

        The file is read each time. A rotation changes it inside a unit of work, and units of work run one after the
        other, across processes. So a unit of work that seals runs either before the rotation adds its key, and then
        the rotation finds the card, or after it, and then it finds the new key.
        """
        text = self._secret.read()
        if text != self._text:
            self._keys, self._text = CardKeys(self._parse(text)), text
        return self._keys

    def add_key(self) -> None:
        """Add a new key, one version above the newest. Call it only inside a unit of work."""
        secrets = self._parse(self._secret.read())
        self._secret.replace(write_keys(secrets | {max(secrets) + 1: new_secret()}))

    def drop_older_keys(self) -> None:
        """Delete all keys but the newest. Call it only inside a unit of work, when no card needs an older key."""
        secrets = self._parse(self._secret.read())
        newest = max(secrets)
        if len(secrets) > 1:
            self._secret.replace(write_keys({newest: secrets[newest]}))

    def index(self, number: str) -> bytes:
        """Digest a number with a key (HMAC-SHA256), so that its card can be found without opening sealed numbers."""
        return hmac.digest(self._index_key, number.encode(), sha256)

    def cvc(self, number: str, expiry: str) -> str:
        """Derive the CVC of a card. It is never stored."""
        digest = hmac.digest(self._cvc_key, f"{number}|{expiry}".encode(), sha256)
        return f"{int.from_bytes(digest) % 10**CVC_DIGITS:0{CVC_DIGITS}d}"

    def is_cvc(self, number: str, expiry: str, cvc: str) -> bool:
        """Return whether a CVC belongs to a card, by deriving it again."""
        return hmac.compare_digest(self.cvc(number, expiry).encode(), cvc.encode("utf-8", "surrogatepass"))

    def _parse(self, text: str) -> dict[int, str]:
        try:
            return parse_keys(text)
        except ValueError as error:
            raise CardKeyError(f"{self.path} has no valid card keys: {error}; restore it from a backup") from None
