"""Blocks: a chain of hashes over all legs and all ended transfers, so that a change of the past is detected.

A unit of work that ends transfers writes one block. The block covers what the unit of work wrote, and contains the
hash of the block before it. Everything here is pure. docs/reference/blocks.md describes the bytes, so that the chain
can also be checked with other tools.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple, Protocol

from core.domain.transfers import Terms, TransferStatus

TAG = b"giro.block.v1\x00"
NO_HASH = bytes(32)
"""The previous hash of the first block."""

LegRow = tuple[int, int, int, int, int, int, int | None]
"""A leg as it is stored: id, transfer, account, amount, balance after, time (µs), the account's previous leg."""

_HEADER = struct.Struct(">14s 32s 12s 7q 32s 32s")
_LEG = struct.Struct(">7q")
_ENDING = struct.Struct(">q 16s 8q 8i")


class BlockKind(StrEnum):
    """What a block covers."""

    GENESIS = "genesis"
    """All that had ended when the chain began."""
    SETTLEMENT = "settlement"
    """All that one unit of work settled: completed and failed transfers from the first sequence to the last."""
    CANCELLATION = "cancellation"
    """One cancelled transfer."""
    SCAR = "scar"
    """All that had ended since the last block that is still trusted. Two operators wrote it after a breach."""

    @property
    def covers_cancelled(self) -> bool:
        """Whether it also covers the cancelled transfers between its first and its last."""
        return self in (BlockKind.GENESIS, BlockKind.SCAR)


@dataclass(frozen=True, slots=True)
class Block:
    """One link of the chain."""

    height: int
    """Its position in the chain; the genesis has 0."""
    kind: BlockKind
    first_leg_id: int
    """Row id of its first leg. If it has no legs, the row id of the next leg."""
    leg_count: int
    first_sequence: int
    last_sequence: int
    ending_count: int
    made_at: int
    """Microseconds since the epoch."""
    hash: bytes

    @property
    def outline(self) -> tuple[int | str, ...]:
        """Everything but its hash."""
        span = (self.first_sequence, self.last_sequence, self.ending_count, self.made_at)
        return (self.height, self.kind.value, self.first_leg_id, self.leg_count, *span)

    @property
    def next_leg_id(self) -> int:
        """Row id of the first leg after this block."""
        return self.first_leg_id + self.leg_count


class Testimony(Protocol):
    """What the block of a scar says besides what every block says: see core/domain/scars.py."""

    @property
    def height(self) -> int: ...

    @property
    def testimony(self) -> bytes: ...


class Ending(NamedTuple):
    """A transfer that has ended, and how it ended."""

    terms: Terms
    status: str
    ended_at: int
    """Microseconds since the epoch."""
    failure: str | None


class Sealer:
    """Collects legs and endings, each in their order, and makes a block of them. Memory use does not grow with them."""

    def __init__(self) -> None:
        self._legs, self._endings = sha256(), sha256()
        self.leg_count = 0
        self.ending_count = 0

    def add_legs(self, legs: Iterable[LegRow]) -> None:
        """Add legs. Raises struct.error if a leg holds anything but 64-bit integers."""
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

    @property
    def digests(self) -> tuple[bytes, bytes]:
        """The hashes of the legs and of the endings so far."""
        return self._legs.digest(), self._endings.digest()

    def seal(
        self,
        kind: BlockKind,
        previous: Block | None,
        *,
        first_sequence: int,
        last_sequence: int,
        made_at: int,
        scar: Testimony | None = None,
    ) -> Block:
        """Make the block that follows `previous`, which is a scar's if `scar` is given.

        Its hash is SHA-256 over a tag, the previous block's hash, its own figures and its body. `made_at` is in µs.
        """
        height = scar.height if scar else previous.height + 1 if previous else 0
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
            sha256(header + (scar.testimony if scar else b"")).digest(),
        )


def cancellation(previous: Block, terms: Terms, ended_at: int) -> Block:
    """Make the block for one cancelled transfer, which ended at `ended_at` (µs)."""
    sealer, sequence = Sealer(), terms.sequence
    sealer.add_ending(terms, TransferStatus.CANCELLED.value, ended_at, None)
    return sealer.seal(
        BlockKind.CANCELLATION, previous, first_sequence=sequence, last_sequence=sequence, made_at=ended_at
    )


def _encode(ending: Ending) -> bytes:
    """Write the numbers in fixed width, the length of each text in characters (-1 if it is missing), the texts."""
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
