"""Sealed files: encrypted in chunks, so that a file of any size can be sealed and opened as a stream.

The chunks are sealed with AES-256-GCM as in the STREAM construction (Hoang, Reyhanitabar, Rogaway and Vizár, 2015):
each nonce has the number of its chunk and whether it is the last. So a changed, missing, repeated, moved or added chunk
is detected, and so is a chunk of another file, because each file has its own key, derived from a random salt.
"""

import secrets
from collections.abc import Iterator
from itertools import count
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core.security.derivation import derive_key

MAGIC = b"giro sealed file 1\n"
SALT_BYTES = 32
CHUNK_BYTES = 1 << 20
TAG_BYTES = 16


class SealBroken(Exception):
    """A file that was not sealed with this key, or has been changed since."""


def seal(source: BinaryIO, target: BinaryIO, secret: str, purpose: str) -> None:
    """Write a sealed copy of a stream. It can only be opened with the same secret and for the same purpose."""
    salt = secrets.token_bytes(SALT_BYTES)
    cipher = AESGCM(derive_key(secret, purpose, salt=salt))
    target.write(MAGIC + salt)
    target.writelines(
        cipher.encrypt(_nonce(number, is_last=is_last), chunk, MAGIC)
        for number, chunk, is_last in _chunks(source, CHUNK_BYTES)
    )


def unseal(source: BinaryIO, target: BinaryIO, secret: str, purpose: str) -> None:
    """Write the content of a sealed stream. Raises SealBroken, possibly after some of it was written."""
    head = source.read(len(MAGIC) + SALT_BYTES)
    if len(head) < len(MAGIC) + SALT_BYTES or not head.startswith(MAGIC):
        raise SealBroken("it is not a sealed file")
    cipher = AESGCM(derive_key(secret, purpose, salt=head[len(MAGIC) :]))
    for number, chunk, is_last in _chunks(source, CHUNK_BYTES + TAG_BYTES):
        try:
            target.write(cipher.decrypt(_nonce(number, is_last=is_last), chunk, MAGIC))
        except InvalidTag:
            raise SealBroken("it was sealed with another key, or it has been changed") from None


def _chunks(source: BinaryIO, size: int) -> Iterator[tuple[int, bytes, bool]]:
    """Read a stream in numbered chunks, and say which is the last. An empty stream is one empty chunk."""
    chunk = source.read(size)
    for number in count():
        following = source.read(size)
        yield number, chunk, not following
        if not following:
            return
        chunk = following


def _nonce(number: int, *, is_last: bool) -> bytes:
    return number.to_bytes(11) + bytes([is_last])
