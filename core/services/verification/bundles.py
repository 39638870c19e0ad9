"""Audit bundles: a month of the ledger in one file, for somebody who trusts neither the bank nor its software.

docs/reference/audit-bundles.md describes the format. Ended transfers never change, so they are read in many short
snapshots. Memory grows with the number of accounts that took part, not with their transfers.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID
from zipfile import ZIP_DEFLATED, ZipFile
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from core.clock import now_us, to_us
from core.domain.anchors import from_line
from core.domain.blocks import Block, BlockKind, LegRow
from core.domain.scars import in_effect
from core.domain.statements import Period
from core.files import append_only
from core.services.verification.anchors import Anchors
from core.storage import blocks, ledger_rows, scars
from core.storage.engines import Engine
from core.storage.ledger_rows import TransferRow
from core.storage.scars import ScarRow

FORMAT = "giro.audit.v1"
ROWS = 2000

LEG_FIELDS = ("id", "transfer_id", "account_id", "amount", "balance_after", "posted_at", "previous_id")

Progress = Callable[[int, int], None]


class NothingToBundle(Exception):
    """No block was made in the month. The message is one line for an operator."""


@dataclass(slots=True)
class _Extent:
    """The blocks of a bundle, and the scars among them."""

    first: int
    last: int
    previous: Block | None
    """The block before the first."""
    scars: list[ScarRow] = field(default_factory=list)

    def is_replaced(self, block: Block) -> bool:
        return any(scar.first_height <= block.height <= scar.last_height for scar in self.scars)


@dataclass(slots=True)
class _Member:
    """A file in the bundle, as lines of JSON."""

    sha256: str = ""
    lines: int = 0


def write(
    database: Engine,
    anchors: Anchors,
    period: Period,
    zone: ZoneInfo,
    to: Path,
    *,
    progress: Progress = lambda done, of: None,
) -> dict[str, Any]:
    """Write the bundle of a month to a new file, and return its manifest.

    Raises NothingToBundle without a block in the month, and OSError if the file exists or cannot be written.
    """
    with database.reading() as connection:
        extent = _extent(
            connection, anchors.path, to_us(period.starts_at(zone)), to_us(period.following.starts_at(zone))
        )
        connection.rollback()
        bundle = _Bundle(connection, extent, progress)
        draft = to.with_name(f"{to.name}.part")
        try:
            with draft.open("xb") as file, ZipFile(file, "w", ZIP_DEFLATED) as archive:
                draft.chmod(0o600)
                members = bundle.write_all(archive, _anchor_lines(anchors.path, extent))
                manifest = _manifest(extent, members, period, zone, anchors.public_key)
                archive.writestr("manifest.json", json.dumps(manifest, indent=2) + "\n")
            to.hardlink_to(draft)  # unlike a rename, this never replaces a file
        finally:
            draft.unlink(missing_ok=True)
    return manifest


def _manifest(
    extent: _Extent, members: dict[str, _Member], period: Period, zone: ZoneInfo, public_key: bytes | None
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "month": str(period),
        "time_zone": zone.key,
        "made_at": now_us(),
        "first_height": extent.first,
        "last_height": extent.last,
        "previous_hash": (extent.previous.hash if extent.previous else bytes(32)).hex(),
        "previous_leg_id": extent.previous.next_leg_id - 1 if extent.previous else 0,
        "public_key": public_key.hex() if public_key else None,
        "files": {name: {"lines": member.lines, "sha256": member.sha256} for name, member in members.items()},
    }


def _extent(connection: Connection, path: Path, start: int, end: int) -> _Extent:
    """Find the blocks of a month, and those after it up to the first anchor, which proves them all.

    A scar covers everything since the block before those that it replaces, so a bundle begins there at the latest.
    """
    heights = blocks.made_between(connection, start, end)
    if heights is None:
        raise NothingToBundle("no block was made in this month")
    first, last = heights
    for line in append_only.read(path):
        try:
            height = from_line(line).height
        except ValueError:
            continue
        if height >= last and blocks.at(connection, height) is not None:
            last = height
            break
    replacing = [
        scar
        for scar in in_effect(scars.confirmed(connection))
        if first <= scar.height <= last or scar.first_height <= last < scar.height
    ]
    first = min([first, *(scar.first_height for scar in replacing)])
    last = max([last, *(scar.height for scar in replacing)])
    return _Extent(first, last, blocks.last_kept(connection, below=first), replacing)


def _anchor_lines(path: Path, extent: _Extent) -> Iterator[dict[str, Any]]:
    for line in append_only.read(path):
        try:
            anchor = from_line(line)
        except ValueError:
            continue
        if extent.first <= anchor.height <= extent.last:
            yield json.loads(line)


class _Bundle:
    """Writes the files of a bundle, each in one pass over the blocks."""

    def __init__(self, connection: Connection, extent: _Extent, progress: Progress) -> None:
        self._connection, self._extent, self._progress = connection, extent, progress
        self._accounts: dict[int, tuple[int, int]] = {}
        """Opening and closing balance of each account with a leg."""

    def write_all(self, archive: ZipFile, anchors: Iterable[dict[str, Any]]) -> dict[str, _Member]:
        """Write every file but the manifest."""
        files = {
            "blocks.jsonl": (_block_line(block) for block in self._blocks()),
            "transfers.jsonl": self._transfers(),
            "legs.jsonl": self._legs(),
            "accounts.jsonl": self._account_lines(),
            "scars.jsonl": map(_scar_line, self._extent.scars),
            "anchors.jsonl": anchors,
        }
        return {name: _write_member(archive, name, lines) for name, lines in files.items()}

    def _blocks(self) -> Iterator[Block]:
        for block in blocks.read_all(self._connection, first=self._extent.first, last=self._extent.last):
            self._connection.rollback()
            yield block

    def _transfers(self) -> Iterator[dict[str, Any]]:
        for block in self._blocks():
            if not self._extent.is_replaced(block):
                yield from map(_transfer_line, self._endings(block))
                self._progress(block.height - self._extent.first, self._extent.last - self._extent.first)

    def _endings(self, block: Block) -> Iterator[TransferRow]:
        """Yield the transfers that a block covers."""
        own_block: set[int] = set()
        if block.kind is BlockKind.SCAR:
            first = next(scar.first_height for scar in self._extent.scars if scar.height == block.height)
            trusted = blocks.last_kept(self._connection, below=first)
            own_block = ledger_rows.front(self._connection, trusted.height if trusted else -1)[1]
        after = block.first_sequence - 1
        while found := ledger_rows.transfers(self._connection, after=after, through=block.last_sequence, limit=ROWS):
            self._connection.rollback()
            for row in found:
                has_own_block = block.kind is BlockKind.SETTLEMENT and row.status == "cancelled"
                if not has_own_block and row.terms.sequence not in own_block:
                    yield row
            after = found[-1].terms.sequence

    def _legs(self) -> Iterator[dict[str, Any]]:
        after = self._extent.previous.next_leg_id - 1 if self._extent.previous else 0
        last = blocks.at(self._connection, self._extent.last)
        through = last.next_leg_id - 1 if last else after
        while legs := ledger_rows.legs(self._connection, after=after, through=through, limit=ROWS):
            self._connection.rollback()
            for leg in legs:
                self._add(leg)
                yield dict(zip(LEG_FIELDS, leg, strict=True))
            after = legs[-1][0]

    def _add(self, leg: LegRow) -> None:
        _id, _transfer, account, amount, balance, *_ = leg
        opening, _ = self._accounts.get(account, (balance - amount, balance))
        self._accounts[account] = (opening, balance)

    def _account_lines(self) -> Iterator[dict[str, Any]]:
        for row_id, number, currency in ledger_rows.account_numbers(self._connection):
            if row_id in self._accounts:
                opening, closing = self._accounts[row_id]
                yield {"id": row_id, "number": number, "currency": currency, "opening": opening, "closing": closing}


def _write_member(archive: ZipFile, name: str, lines: Iterable[dict[str, Any]]) -> _Member:
    member, digest = _Member(), sha256()
    with archive.open(name, "w", force_zip64=True) as file:
        for line in lines:
            written = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            digest.update(written)
            file.write(written)
            member.lines += 1
    member.sha256 = digest.hexdigest()
    return member


def _block_line(block: Block) -> dict[str, Any]:
    names = (
        "height",
        "kind",
        "first_leg_id",
        "leg_count",
        "first_sequence",
        "last_sequence",
        "ending_count",
        "made_at",
    )
    return dict(zip(names, block.outline, strict=True)) | {"hash": block.hash.hex()}


def _transfer_line(row: TransferRow) -> dict[str, Any]:
    line = row.terms._asdict()
    line["id"] = line.pop("sequence")
    line["public_id"] = str(UUID(bytes=row.terms.public_id))
    line["fingerprint"] = row.terms.fingerprint.hex() if row.terms.fingerprint is not None else None
    return line | {"status": row.status, "settled_at": row.settled_at, "failure_code": row.failure}


def _scar_line(scar: ScarRow) -> dict[str, Any]:
    return {
        "first_height": scar.first_height,
        "last_height": scar.last_height,
        "reason": scar.reason,
        "proposed_by": scar.proposed_by,
        "confirmed_by": scar.confirmed_by,
        "public_key": scar.public_key.hex() if scar.public_key else None,
        "signature": scar.signature.hex() if scar.signature else None,
    }
