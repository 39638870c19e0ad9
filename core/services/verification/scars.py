"""Scars in a verification: which blocks they replace, whether they are signed, and that they stay visible."""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256

from sqlalchemy import Connection

from core.domain.blocks import Block, BlockKind
from core.domain.scars import Scar, message, packed
from core.security.anchor_key import has_signed
from core.services.verification.report import Report
from core.storage import blocks, scars
from core.storage.scars import ScarRow


class ScarredBlocks:
    """Takes the replaced blocks out of a chain that is read in its order. Only their digest is kept."""

    def __init__(self, replacing: Sequence[ScarRow]) -> None:
        """`replacing` are the scars that no later one replaces, oldest first."""
        self._replacing = {scar.height: scar for scar in replacing}
        self._replaced = sha256()

    def kept(self, found: Iterable[Block]) -> Iterator[Block]:
        """Yield the blocks that no scar replaces."""
        for block in found:
            if any(scar.first_height <= block.height <= scar.last_height for scar in self._replacing.values()):
                self._replaced.update(packed(block))
            else:
                yield block

    def of(self, block: Block) -> Scar | None:
        """Return the scar of a block, once the blocks before it are read; None if the block is no scar's."""
        row = self._replacing.get(block.height)
        if block.kind is not BlockKind.SCAR or row is None:
            return None
        replaced, self._replaced = self._replaced.digest(), sha256()
        return Scar(row.first_height, row.last_height, replaced, row.reason, row.proposed_by, row.confirmed_by or 0)


def check_signatures(
    connection: Connection, report: Report, replacing: Iterable[ScarRow], public_key: bytes | None
) -> None:
    """Check that the bank's key has signed each scar: a scar of anybody else could hide a changed past."""
    if public_key is None:
        return
    for scar in replacing:
        block, name = blocks.at(connection, scar.height), f"the scar in block {scar.height}"
        is_ours = block is not None and scar.public_key == public_key and scar.signature is not None
        if block is None or not is_ours or not has_signed(public_key, scar.signature or b"", message(block.hash)):
            report.add("scar_is_signed", f"{name} is not signed with the bank's key", block=scar.height)


def tell_scars(connection: Connection, report: Report) -> None:
    """Report every scar, for ever."""
    report.scars = scars.views(connection)
    report.warnings += map(str, report.scars)
