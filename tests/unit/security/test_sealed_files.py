"""Sealed files: every change of a byte, and every change of the order of chunks, is detected."""

from collections.abc import Callable
from io import BytesIO

import pytest

from core.security import sealed_files
from core.security.sealed_files import MAGIC, SALT_BYTES, TAG_BYTES, SealBroken, seal, unseal

KEY = "a key of backups that is long enough to be one"
CHUNK = 64
HEAD = len(MAGIC) + SALT_BYTES
BLOCK = CHUNK + TAG_BYTES
CONTENT = bytes(range(256)) + b"the rest"
"""Four whole chunks and a short one."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_files, "CHUNK_BYTES", CHUNK)


def sealed(content: bytes, key: str = KEY, purpose: str = "tests") -> bytes:
    target = BytesIO()
    seal(BytesIO(content), target, key, purpose)
    return target.getvalue()


def opened(text: bytes, key: str = KEY, purpose: str = "tests") -> bytes:
    target = BytesIO()
    unseal(BytesIO(text), target, key, purpose)
    return target.getvalue()


def block(text: bytes, number: int) -> bytes:
    return text[HEAD + number * BLOCK :][:BLOCK]


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, len(CONTENT)])
def test_what_was_sealed_is_what_is_opened(size: int) -> None:
    assert opened(sealed(CONTENT[:size])) == CONTENT[:size]


def test_the_same_content_never_looks_the_same() -> None:
    assert block(sealed(CONTENT), 0) != block(sealed(CONTENT), 0)
    assert CONTENT[:16] not in sealed(CONTENT)


def test_every_flipped_bit_is_detected() -> None:
    text = sealed(CONTENT)
    for place in range(len(text)):
        changed = bytearray(text)
        changed[place] ^= 1
        with pytest.raises(SealBroken):
            opened(bytes(changed))


def test_every_truncation_is_detected() -> None:
    text = sealed(CONTENT[: 4 * CHUNK])  # the last chunk is a whole one
    for length in range(len(text)):
        with pytest.raises(SealBroken):
            opened(text[:length])


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "two chunks swapped": lambda text: text[:HEAD] + block(text, 1) + block(text, 0) + text[HEAD + 2 * BLOCK :],
    "a chunk missing": lambda text: text[:HEAD] + text[HEAD + BLOCK :],
    "a chunk repeated": lambda text: text[:HEAD] + block(text, 0) + text[HEAD:],
    "the last chunk first": lambda text: text[:HEAD] + block(text, 4) + text[HEAD:],
    "a chunk of another file": lambda text: text[:HEAD] + block(sealed(CONTENT), 0) + text[HEAD + BLOCK :],
    "bytes added": lambda text: text + b"x",
    "a chunk added": lambda text: text + block(text, 3),
    "another head": lambda text: sealed(CONTENT)[:HEAD] + text[HEAD:],
    "nothing": lambda text: b"",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_change_of_the_chunks_is_detected(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(SealBroken):
        opened(change(sealed(CONTENT)))


@pytest.mark.parametrize(("key", "purpose"), [(KEY + "!", "tests"), (KEY, "something else")])
def test_another_key_or_purpose_opens_nothing(key: str, purpose: str) -> None:
    with pytest.raises(SealBroken, match="another key"):
        opened(sealed(CONTENT), key, purpose)
