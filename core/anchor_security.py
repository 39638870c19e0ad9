"""The key that signs anchors. It is not in the database, and need not be on the machine that checks them."""

from functools import cached_property

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from core.domain.anchors import Anchor, message
from core.key_derivation import derive_key


class AnchorKey:
    """Signs (Ed25519, RFC 8032)."""

    def __init__(self, secret: str) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(derive_key(secret, "anchor signature"))

    @cached_property
    def public(self) -> bytes:
        """What everybody may know, 32 bytes: it shows that an anchor was signed with this key, and cannot sign."""
        return self._private.public_key().public_bytes_raw()

    def sign(self, height: int, block_hash: bytes, anchored_at: int) -> Anchor:
        """Say that a block has this hash, at a time in microseconds since the epoch."""
        signature = self._private.sign(message(height, block_hash, anchored_at))
        return Anchor(height, block_hash, anchored_at, self.public, signature)


def is_signed_with(anchor: Anchor, public_key: bytes) -> bool:
    """Say whether the owner of a key signed an anchor."""
    if anchor.public_key != public_key:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(
            anchor.signature, message(anchor.height, anchor.hash, anchor.anchored_at)
        )
    except InvalidSignature:
        return False
    return True
