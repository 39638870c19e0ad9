"""Derivation of keys from secrets, one key for each purpose."""

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32


def derive_key(secret: str, purpose: str, *, salt: bytes | None = None) -> bytes:
    """Derive a key of 256 bits for one purpose from a secret (HKDF with SHA-256, RFC 5869)."""
    return HKDF(hashes.SHA256(), KEY_BYTES, salt=salt, info=f"giro {purpose}".encode()).derive(secret.encode())
