"""The key that signs anchors and backups.

It is not in the database, and a machine that checks signatures does not need it.
"""

from functools import cached_property

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from core.domain import scars
from core.domain.anchors import Anchor, message
from core.security.derivation import derive_key


class AnchorKey:
    """The private key that signs anchors (Ed25519, RFC 8032)."""

    def __init__(self, secret: str) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(derive_key(secret, "anchor signature"))

    @cached_property
    def public(self) -> bytes:
        """The public key, 32 bytes. It can check that an anchor was signed with this key, but it cannot sign."""
        return self._private.public_key().public_bytes_raw()

    def sign(self, height: int, block_hash: bytes, anchored_at: int) -> Anchor:
        """Sign that a block has this hash, at a time in microseconds since the epoch."""
        signature = self.sign_bytes(message(height, block_hash, anchored_at))
        return Anchor(height, block_hash, anchored_at, self.public, signature)

    def sign_scar(self, block_hash: bytes) -> bytes:
        """Sign the block of a scar."""
        return self.sign_bytes(scars.message(block_hash))

    def sign_bytes(self, signed: bytes) -> bytes:
        """Sign bytes, which must begin with a tag of their kind, so that they cannot be taken for another kind."""
        return self._private.sign(signed)


def has_signed(public_key: bytes, signature: bytes, signed: bytes) -> bool:
    """Return whether the private key of `public_key` has signed these bytes."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def is_signed_with(anchor: Anchor, public_key: bytes) -> bool:
    """Return whether an anchor was signed with the private key of `public_key`."""
    signed = message(anchor.height, anchor.hash, anchor.anchored_at)
    return anchor.public_key == public_key and has_signed(public_key, anchor.signature, signed)
