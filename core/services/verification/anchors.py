"""Checks the ledger against its signed anchors."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sqlalchemy import Connection

from core.domain.anchors import Anchor, from_line
from core.domain.scars import in_effect
from core.files.append_only import read
from core.security.anchor_key import AnchorKey, is_signed_with
from core.security.secrets import Secrets
from core.services.verification.report import Report
from core.services.verification.scars import check_signatures
from core.settings import Settings, SettingsError, variable
from core.storage import blocks, scars
from core.storage import verifications as rows


@dataclass(frozen=True, slots=True)
class Anchors:
    """Where the anchors are, and the key that they must be signed with (Ed25519, 32 bytes)."""

    path: Path
    public_key: bytes | None
    """None if there is no key yet; signatures are then not checked."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the anchors of this bank; its key is made if it is missing."""
        return cls(settings.anchor_path, AnchorKey(Secrets(settings).anchor_key.read_or_make()).public)

    @classmethod
    def at_hand(cls, settings: Settings) -> Self:
        """Return the anchors of this bank without making a key: it would differ from the one that signed.

        Raises AnchorKeyMissing if there are anchors and the key is missing.
        """
        if key := Secrets(settings).anchor_key.find():
            return cls(settings.anchor_path, AnchorKey(key).public)
        if any(read(settings.anchor_path)):
            raise AnchorKeyMissing(f"there are anchors but no anchor key: set {variable('anchor_key')}")
        return cls(settings.anchor_path, None)


class AnchorKeyMissing(SettingsError):
    """The key that signed the anchors is missing. The message is one line for an operator."""


def check_anchors(
    connection: Connection, report: Report, anchors: Anchors, let_go: Callable[[], None], *, since: int = -1
) -> None:
    """Check each anchor above the height `since`: its signature, and that the ledger has the block that it names.

    An invalid line is only a warning, because a power cut can tear a line. So is an anchor of a block that a scar
    replaces, if the scar is signed. Missing anchors are found by the highest one that an earlier verification saw.
    """
    replacing = in_effect(scars.confirmed(connection))
    check_signatures(connection, report, replacing, anchors.public_key)
    seen, unreadable, replaced = rows.highest_anchor(connection), 0, 0
    let_go()  # end the earlier snapshot: the anchors read next may name newer blocks
    for line in read(anchors.path):
        try:
            anchor = from_line(line)
        except ValueError:
            unreadable += 1
            continue
        if any(scar.first_height <= anchor.height <= scar.last_height for scar in replacing):
            replaced += 1
        elif anchor.height > since:
            report.anchors += 1
            _check(connection, report, anchor, anchors.public_key)
            let_go()
        report.anchored_height = max(report.anchored_height or 0, anchor.height)
    if replaced:
        report.warnings.append(f"{replaced} anchors name blocks that a scar replaces: they prove nothing any more")
    if unreadable:
        report.warnings.append(f"the anchor file contains {unreadable} invalid lines; a power cut can tear one")
    if seen is not None and (report.anchored_height is None or report.anchored_height < seen):
        report.add(
            "anchor_holds", f"anchors up to block {seen} were seen before, now they end at {report.anchored_height}"
        )


def _check(connection: Connection, report: Report, anchor: Anchor, public_key: bytes | None) -> None:
    name = f"the anchor of block {anchor.height}"
    if public_key is not None and not is_signed_with(anchor, public_key):
        report.add("anchor_holds", f"{name} is not signed with the bank's key")
        return
    block = blocks.at(connection, anchor.height)
    if block is None:
        report.add("anchor_holds", f"{name}: the ledger has no such block", block=anchor.height)
    elif block.hash != anchor.hash:
        report.add("anchor_holds", f"{name}: that block has another hash now", block=anchor.height)
