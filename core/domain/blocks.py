"""Blocks: a chain of hashes over every leg and every ending, so that nobody changes the past unseen.

A unit of work that ends transfers writes one block, which covers what it wrote and names, by its hash, the block
before it. Everything here is pure; docs/reference/blocks.md gives the bytes, for whoever checks them by other means.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple

from core.domain.transfers import Terms, TransferStatus

TAG = b"giro.block.v1\x00"
NO_HASH = bytes(32)
"""What stands for the hash before the first block."""

LegRow = tuple[int, int, int, int, int, int, int | None]
"""A leg as it is stored: id, transfer, account, amount, balance after, time (µs), the account's leg before it."""

_HEADER = struct.Struct(">14s 32s 12s 7q 32s 32s")
_LEG = struct.Struct(">7q")
_ENDING = struct.Struct(">q 16s 8q 8i")


class BlockKind(StrEnum):
    """What a block covers."""

    GENESIS = "genesis"
    """What there was when the chain began, as far as everything had ended."""
    SETTLEMENT = "settlement"
    """What one unit of work settled: completed and failed transfers from the first sequence to the last."""
    CANCELLATION = "cancellation"
    """One cancelled transfer."""


@dataclass(frozen=True, slots=True)
class Block:
    """One link of the chain."""

    height: int
    """Its place in the chain, from 0 for the genesis."""
    kind: BlockKind
    first_leg_id: int
    """Row id of its first leg; of the leg that comes next, where it has none."""
    leg_count: int
    first_sequence: int
    last_sequence: int
    ending_count: int
    made_at: int
    """Microseconds since the epoch."""
    hash: bytes

    @property
    def outline(self) -> tuple[int | str, ...]:
        """All that it says of itself but its hash."""
        span = (self.first_sequence, self.last_sequence, self.ending_count, self.made_at)
        return (self.height, self.kind.value, self.first_leg_id, self.leg_count, *span)

    @property
    def next_leg_id(self) -> int:
        """Row id of the first leg that comes after this block."""
        return self.first_leg_id + self.leg_count


class Ending(NamedTuple):
    """A transfer that has ended, and how."""

    terms: Terms
    status: str
    ended_at: int
    """Microseconds since the epoch."""
    failure: str | None


class Sealer:
    """Takes legs and endings in, each in their order, and makes a block of them. Memory does not grow with them."""

    def __init__(self) -> None:
        self._legs, self._endings = sha256(), sha256()
        self.leg_count = 0
        self.ending_count = 0

    def add_legs(self, legs: Iterable[LegRow]) -> None:
        """Add legs. Raises struct.error where one holds anything but 64-bit integers."""
        pack = _LEG.pack
        packed = [
            pack(leg_id, transfer, account, amount, after, at, previous or 0)
            for leg_id, transfer, account, amount, after, at, previous in legs
        ]
        self._legs.update(b"".join(packed))
        self.leg_count += len(packed)

    def add_ending(self, terms: Terms, status: str, ended_at: int, failure: str | None) -> None:
        """Add a transfer that has ended: its terms, and how and when (µs) it ended. Raises as `add_legs` does."""
        self.add_endings([Ending(terms, status, ended_at, failure)])

    def add_endings(self, endings: Iterable[Ending]) -> None:
        """Add transfers that have ended. Raises as `add_legs` does."""
        encoded = [_encode(ending) for ending in endings]
        self._endings.update(b"".join(encoded))
        self.ending_count += len(encoded)

    def seal(
        self, kind: BlockKind, previous: Block | None, *, first_sequence: int, last_sequence: int, made_at: int
    ) -> Block:
        """Make the block that follows `previous`: SHA-256 over a tag, the hash before it, its own figures, its body."""
        height = previous.height + 1 if previous else 0
        first_leg_id = previous.next_leg_id if previous else 1
        figures = (height, first_leg_id, self.leg_count, first_sequence, last_sequence, self.ending_count, made_at)
        before = previous.hash if previous else NO_HASH
        header = _HEADER.pack(TAG, before, kind.value.encode(), *figures, self._legs.digest(), self._endings.digest())
        return Block(
            height,
            kind,
            first_leg_id,
            self.leg_count,
            first_sequence,
            last_sequence,
            self.ending_count,
            made_at,
            sha256(header).digest(),
        )


def cancellation(previous: Block, terms: Terms, ended_at: int) -> Block:
    """Make the block of one cancelled transfer, which ended at `ended_at` (µs)."""
    sealer, sequence = Sealer(), terms.sequence
    sealer.add_ending(terms, TransferStatus.CANCELLED.value, ended_at, None)
    return sealer.seal(
        BlockKind.CANCELLATION, previous, first_sequence=sequence, last_sequence=sequence, made_at=ended_at
    )


def _encode(ending: Ending) -> bytes:
    """Write numbers in fixed width, then the length of each text in characters (-1 for none), then the texts."""
    terms, status, ended_at, failure = ending
    (sequence, public_id, kind, payer, payee, amount, currency, description, submitted_by, request_id, key, fingerprint,
     version, previous_id, created_at) = terms  # fmt: skip
    numbers = _ENDING.pack(
        sequence,
        public_id,
        payer,
        payee,
        amount,
        submitted_by,
        version,
        previous_id or 0,
        created_at,
        ended_at,
        len(kind),
        len(currency),
        len(status),
        -1 if failure is None else len(failure),
        len(request_id),
        -1 if description is None else len(description),
        -1 if key is None else len(key),
        -1 if fingerprint is None else len(fingerprint),
    )
    texts = f"{kind}{currency}{status}{failure or ''}{request_id}{description or ''}{key or ''}"
    return b"".join((numbers, texts.encode(), fingerprint or b""))
