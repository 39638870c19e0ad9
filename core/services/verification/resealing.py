"""Resealing: the way back from a breach of blocks or anchors alone. Two operators write a scar into the chain.

A scar is a block that covers again everything that had ended since the last block that is still trusted. It repairs
nothing and hides nothing: the replaced blocks stay as they are, and every later verification reports the scar.
"""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from sqlalchemy import Connection

from core.clock import now_us, to_datetime
from core.domain.anchors import from_line
from core.domain.audit import Action, Author
from core.domain.blocks import Block, BlockKind, Sealer, cancellation
from core.domain.lanes import Lane
from core.domain.scars import Scar, digest
from core.domain.verification import Breach
from core.files import append_only
from core.security.anchor_key import AnchorKey, is_signed_with
from core.services.audit import write_down
from core.services.verification import kept, verify
from core.services.verification.anchoring import anchor_head
from core.services.verification.anchors import Anchors
from core.services.verification.report import Report
from core.services.verification.scan import Progress
from core.storage import blocks, ledger_rows, scars, verifications
from core.storage.engines import Engine
from core.storage.ledger_rows import Extent
from core.storage.scars import ScarRow
from core.storage.unit_of_work import unit_of_work

RESEALABLE = frozenset({"blocks_are_whole", "block_recomputes", "anchor_holds", "scar_is_signed"})
"""Rules that a scar answers: they say that the ledger is not the one that was sealed, and nothing about its sums."""

ROWS = 2000


class CannotReseal(Exception):
    """A scar is not the answer to what was found. The message is one line for an operator."""


@dataclass(frozen=True, slots=True)
class Damage:
    """The part of the chain that is no longer trusted, and all rows that a scar would cover."""

    trusted: Block | None
    """The last block that is still trusted; None if the scar replaces all."""
    last_height: int
    """The highest block that exists, or that an anchor of the bank names."""
    replaced: bytes
    """SHA-256 of the replaced blocks as they were found."""
    sealer: Sealer
    first_sequence: int
    extent: Extent
    cancelled: frozenset[int]
    """Later transfers that a trusted block cancels."""

    @property
    def first_height(self) -> int:
        """The first block that is no longer trusted."""
        return self.trusted.height + 1 if self.trusted else 0

    @property
    def content(self) -> bytes:
        """The digest of all that a scar would say about the ledger. Both operators must see the same."""
        legs, endings = self.sealer.digests
        figures = f"{self.first_height} {self.last_height} {self.first_sequence} {self.extent.front}".encode()
        return sha256(figures + self.replaced + legs + endings).digest()


def propose(
    database: Engine, author: Author, anchors: Anchors, reason: str, progress: Progress = lambda done, of: None
) -> tuple[ScarRow, Report]:
    """Verify the ledger, keep the breach, and propose a scar for it. Raises CannotReseal if a scar is no answer."""
    report = _verified(database, anchors, progress)
    damage = _damage(database, report, anchors)
    heights = (damage.first_height, damage.last_height)
    with unit_of_work(database, Lane.ACCEPT, Lane.SETTLE) as connection:
        _require_still(connection, damage)
        row_id = scars.propose(
            connection,
            heights=heights,
            content=damage.content,
            reason=reason,
            proposed_by=author.user_id or 0,
            proposed_at=to_datetime(now_us()),
        )
        details: dict[str, int] = {"proposal": row_id, "first_block": heights[0], "last_block": heights[1]}
        write_down(connection, author, Action.LEDGER_RESEAL_PROPOSED, None, reason=reason, **details)
        proposal = scars.find(connection, row_id)
    assert proposal is not None, "written in this unit of work"
    return proposal, report


def confirm(
    database: Engine,
    author: Author,
    proposal_id: int,
    key: AnchorKey,
    anchor_path: Path,
    *,
    progress: Progress = lambda done, of: None,
) -> Report:
    """Write the scar that another operator proposed, anchor it, verify the ledger again, and keep the result.

    Raises CannotReseal if the proposal is unknown, confirmed, by the same operator, or about another damage.
    """
    anchors = Anchors(anchor_path, key.public)
    with database.reading() as connection:
        proposal = scars.find(connection, proposal_id)
    if proposal is None or proposal.confirmed_by is not None:
        raise CannotReseal(f"there is no open proposal {proposal_id}")
    if proposal.proposed_by == author.user_id:
        raise CannotReseal("the operator who proposed it cannot confirm it: a second one must")
    damage = _damage(database, _verified(database, anchors, progress), anchors)
    if damage.content != proposal.content:
        raise CannotReseal("the ledger is not what the first operator saw: look again, and propose again")
    with unit_of_work(database, Lane.ACCEPT, Lane.SETTLE) as connection:
        _require_still(connection, damage)
        _write(connection, author, proposal, damage, key)
    anchor_head(database, key, anchor_path)
    return _verified(database, anchors, progress)


def _verified(database: Engine, anchors: Anchors, progress: Progress) -> Report:
    """Verify the whole ledger, and keep the result: a breach halts settlement, so that nothing ends meanwhile."""
    started_at = to_datetime(now_us())
    report = verify(database, anchors=anchors, progress=progress)
    with unit_of_work(database) as connection:
        kept.keep(connection, report, started_at=started_at)
    return report


def _damage(database: Engine, report: Report, anchors: Anchors) -> Damage:
    """Find what a scar must cover. Ended transfers never change, so this reads them without the lock."""
    if report.holds:
        raise CannotReseal("every rule holds: there is nothing to reseal")
    if report.isolation is not None:
        raise CannotReseal("accounts are isolated: release them first, with `giro isolate --release`")
    if others := sorted(report.counts.keys() - RESEALABLE):
        raise CannotReseal(f"other rules are broken as well, and a scar would hide that: {', '.join(others)}")
    with database.reading() as connection:
        extent, replacing = ledger_rows.extent(connection), scars.confirmed(connection)
        if extent.head is None:
            raise CannotReseal("the chain has no block at all: restore a backup")
        signed = _signed_heights(connection, anchors)
        named = [scar.height for scar in replacing] + [verifications.highest_anchor(connection) or 0]
        last_height = max([extent.head.height, *signed, *named])
        first = min([_first_broken(breach, signed) for breach in report.breaches] + [extent.head.height + 1])
        trusted = blocks.last_kept(connection, below=first)
        begin = trusted.height + 1 if trusted else 0
        replaced = digest(blocks.read_all(connection, first=begin, last=last_height))
        settled, cancelled = ledger_rows.front(connection, trusted.height if trusted else -1)
        sealer = _seal(connection, trusted, settled, frozenset(cancelled), extent)
    return Damage(trusted, last_height, replaced, sealer, settled + 1, extent, frozenset(cancelled))


def _signed_heights(connection: Connection, anchors: Anchors) -> dict[int, bool]:
    """Return the heights that anchors of the bank name, and whether the ledger has each of these blocks."""
    found = {}
    for line in append_only.read(anchors.path):
        try:
            anchor = from_line(line)
        except ValueError:
            continue
        if anchors.public_key is None or is_signed_with(anchor, anchors.public_key):
            block = blocks.at(connection, anchor.height)
            found[anchor.height] = block is not None and block.hash == anchor.hash
    return found


def _first_broken(breach: Breach, signed: dict[int, bool]) -> int:
    """Return the first block that a breach makes doubtful. A wrong anchor makes all since the last right one so."""
    if breach.block is None:
        return 2**63 - 1
    if breach.rule != "anchor_holds":
        return breach.block
    return max((height + 1 for height, holds in signed.items() if holds and height < breach.block), default=0)


def _seal(
    connection: Connection, trusted: Block | None, settled: int, cancelled: frozenset[int], extent: Extent
) -> Sealer:
    """Hash everything that has ended since the last trusted block, up to the oldest pending transfer."""
    sealer, leg, sequence = Sealer(), trusted.next_leg_id - 1 if trusted else 0, settled
    while legs := ledger_rows.legs(connection, after=leg, through=extent.last_leg, limit=ROWS):
        sealer.add_legs(legs)
        leg = legs[-1][0]
    while found := ledger_rows.transfers(connection, after=sequence, through=extent.front, limit=ROWS):
        for row in found:
            if row.terms.sequence not in cancelled:
                sealer.add_ending(row.terms, row.status, row.settled_at or 0, row.failure)
        sequence = found[-1].terms.sequence
    return sealer


def _require_still(connection: Connection, damage: Damage) -> None:
    """Raise CannotReseal if anything has ended since the damage was looked at. The caller holds the lock."""
    halted, extent = verifications.newest_breaches(connection), ledger_rows.extent(connection)
    before = damage.extent
    if not halted or (extent.head, extent.last_leg) != (before.head, before.last_leg):
        raise CannotReseal("the ledger went on meanwhile: try again")


def _write(connection: Connection, author: Author, proposal: ScarRow, damage: Damage, key: AnchorKey) -> None:
    """Write the scar, and again the cancellations beyond the oldest pending transfer, which it does not cover."""
    now, extent, by = now_us(), damage.extent, author.user_id or 0
    scar = Scar(damage.first_height, damage.last_height, damage.replaced, proposal.reason, proposal.proposed_by, by)
    head = damage.sealer.seal(
        BlockKind.SCAR,
        damage.trusted,
        first_sequence=damage.first_sequence,
        last_sequence=max(extent.front, damage.first_sequence - 1),
        made_at=now,
        scar=scar,
    )
    blocks.add(connection, head)
    scars.confirm(
        connection,
        proposal.id,
        confirmed_by=by,
        confirmed_at=to_datetime(now),
        public_key=key.public,
        signature=key.sign_scar(head.hash),
    )
    for row in ledger_rows.cancelled(connection, after=extent.front):
        if row.terms.sequence not in damage.cancelled:
            head = cancellation(head, row.terms, row.settled_at or 0)
            blocks.add(connection, head)
    details = {"block": scar.height, "first_block": scar.first_height, "last_block": scar.last_height}
    write_down(
        connection, author, Action.LEDGER_RESEALED, None, proposal=proposal.id, reason=proposal.reason, **details
    )
