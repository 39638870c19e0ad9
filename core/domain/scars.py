"""Scars: blocks that two operators write after a breach. A scar replaces the trust in earlier blocks, visibly."""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Protocol

from core.domain.blocks import Block

SIGNED_TAG = b"giro.scar.v1\x00"

_TESTIMONY = struct.Struct(">2q 32s 32s 2q")
_REPLACED = struct.Struct(">12s 7q 32s")


class Span(Protocol):
    """The heights whose blocks a scar replaces."""

    @property
    def first_height(self) -> int: ...

    @property
    def last_height(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Scar:
    """What a scar says besides what every block says."""

    first_height: int
    last_height: int
    """The blocks from the first to the last height are replaced. The scar is the next one."""
    replaced: bytes
    """SHA-256 of these blocks as they were found."""
    reason: str
    proposed_by: int
    confirmed_by: int
    """Row ids of the two operators."""

    @property
    def height(self) -> int:
        """The height of its block."""
        return self.last_height + 1

    @property
    def testimony(self) -> bytes:
        """The bytes that follow the header of its block under the hash."""
        reason = sha256(self.reason.encode()).digest()
        operators = (self.proposed_by, self.confirmed_by)
        return _TESTIMONY.pack(self.first_height, self.last_height, self.replaced, reason, *operators)


@dataclass(frozen=True, slots=True)
class ScarView:
    """A confirmed scar, as verifications report it for ever."""

    height: int
    first_height: int
    last_height: int
    reason: str
    proposed_by: str
    confirmed_by: str
    """E-mail addresses of the two operators."""
    confirmed_at: datetime

    def __str__(self) -> str:
        by = f"proposed by {self.proposed_by}, confirmed by {self.confirmed_by} on {self.confirmed_at:%Y-%m-%d}"
        over = (
            f"blocks {self.first_height} to {self.last_height}" if self.first_height <= self.last_height else "no block"
        )
        return f"block {self.height} is a scar that replaces {over}: {self.reason} ({by})"


def message(block_hash: bytes) -> bytes:
    """Return the bytes that the bank's key signs for the block of a scar."""
    return SIGNED_TAG + block_hash


def packed(block: Block) -> bytes:
    """Write a replaced block as it is stored."""
    height, _kind, *figures = block.outline
    return _REPLACED.pack(block.kind.value.encode(), height, *figures, block.hash)


def digest(replaced: Iterable[Block]) -> bytes:
    """Return the SHA-256 of replaced blocks as they are stored, in the order of their heights."""
    made = sha256()
    for block in replaced:
        made.update(packed(block))
    return made.digest()


def in_effect[S: Span](scars: Sequence[S]) -> list[S]:
    """Leave out the scars that a later one replaces. The oldest is first.

    A scar ends right before its own block, so it contains an earlier one wholly or not at all.
    """
    kept: list[S] = []
    for scar in reversed(scars):
        if not kept or scar.last_height + 1 < kept[-1].first_height:
            kept.append(scar)
    return kept[::-1]
