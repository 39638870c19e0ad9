"""Anchors: what the bank's key has said of the chain of blocks, kept outside of the database."""

import json
import struct
from dataclasses import dataclass

TAG = b"giro.anchor.v1\x00"
VERSION = 1

_MESSAGE = struct.Struct(">15s q 32s q")


@dataclass(frozen=True, slots=True)
class Anchor:
    """One signed line: at this time the block of this height had this hash, and so had all before it."""

    height: int
    hash: bytes
    """Of the block, 32 bytes."""
    anchored_at: int
    """Microseconds since the epoch."""
    public_key: bytes
    """Ed25519 (RFC 8032), 32 bytes."""
    signature: bytes
    """64 bytes, over `message`."""


def message(height: int, block_hash: bytes, anchored_at: int) -> bytes:
    """The bytes that are signed: a tag, the block's height and hash, the time."""
    return _MESSAGE.pack(TAG, height, block_hash, anchored_at)


def to_line(anchor: Anchor) -> str:
    """Write an anchor as one line of JSON, without its end."""
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
    """Read an anchor. Raises ValueError for anything that `to_line` does not write."""
    try:
        values = json.loads(line)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(values, dict) or values.get("version") != VERSION:
        raise ValueError(f"no anchor of version {VERSION}")
    try:
        numbers = [values["height"], values["anchored_at"]]
        texts = [bytes.fromhex(values[name]) for name in ("hash", "public_key", "signature")]
    except (KeyError, TypeError) as error:
        raise ValueError(f"no anchor: {error}") from None
    if any(type(number) is not int or not 0 <= number < 2**63 for number in numbers):
        raise ValueError("height and time are whole numbers")
    if [len(text) for text in texts] != [32, 32, 64]:
        raise ValueError("hash and key have 32 bytes, a signature has 64")
    return Anchor(numbers[0], texts[0], numbers[1], texts[1], texts[2])
