"""Anchors: signed statements about the chain of blocks, stored outside the database."""

import json
import struct
from dataclasses import dataclass

TAG = b"giro.anchor.v1\x00"
VERSION = 1

_MESSAGE = struct.Struct(">15s q 32s q")


@dataclass(frozen=True, slots=True)
class Anchor:
    """One signed line: at this time, the block of this height had this hash.

    A block's hash covers the block before it, so an anchor fixes all earlier blocks too.
    """

    height: int
    hash: bytes
    """Hash of the block, 32 bytes."""
    anchored_at: int
    """Microseconds since the epoch."""
    public_key: bytes
    """Ed25519 public key (RFC 8032), 32 bytes."""
    signature: bytes
    """Signature over `message`, 64 bytes."""


def message(height: int, block_hash: bytes, anchored_at: int) -> bytes:
    """Return the bytes that are signed: a tag, the block's height and hash, and the time (µs since the epoch)."""
    return _MESSAGE.pack(TAG, height, block_hash, anchored_at)


def to_line(anchor: Anchor) -> str:
    """Write an anchor as one line of JSON, without the line break."""
    return json.dumps(
        {
            "version": VERSION,
            "height": anchor.height,
            "hash": anchor.hash.hex(),
            "anchored_at": anchor.anchored_at,
            "public_key": anchor.public_key.hex(),
            "signature": anchor.signature.hex(),
        }
    )


def from_line(line: str) -> Anchor:
    """Read an anchor. Raises ValueError for a line that `to_line` cannot have written."""
    try:
        values = json.loads(line)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    if not isinstance(values, dict) or values.get("version") != VERSION:
        raise ValueError(f"not an anchor of version {VERSION}")
    try:
        numbers = [values["height"], values["anchored_at"]]
        texts = [bytes.fromhex(values[name]) for name in ("hash", "public_key", "signature")]
    except (KeyError, TypeError) as error:
        raise ValueError(f"not an anchor: {error}") from None
    if any(type(number) is not int or not 0 <= number < 2**63 for number in numbers):
        raise ValueError("height and time must be whole numbers")
    if [len(text) for text in texts] != [32, 32, 64]:
        raise ValueError("hash and key must have 32 bytes, the signature 64")
    return Anchor(numbers[0], texts[0], numbers[1], texts[1], texts[2])
