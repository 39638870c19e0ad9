"""Reads legs, transfers and blocks in parallel, each in its own order, and checks them against each other."""

import struct
from collections.abc import Callable, Iterator, Sequence

from sqlalchemy import Connection

from core.domain.batches import BatchError
from core.domain.blocks import Block, BlockKind, LegRow, Sealer, cancellation
from core.services.verification.computed_accounts import ComputedAccounts
from core.services.verification.report import Report
from core.services.verification.scars import ScarredBlocks
from core.storage import batches, blocks
from core.storage import ledger_rows as rows
from core.storage.ledger_rows import Extent, TransferRow
from core.storage.scars import ScarRow

ROWS = 2000
"""Rows read in one snapshot. It takes some ten milliseconds, in which the write-ahead log cannot be truncated."""

PROGRESS_EVERY = 1000

Progress = Callable[[int, int], None]
"""Called now and then with the number of legs read, and the total."""

UNREADABLE = (struct.error, TypeError, AttributeError)
"""Errors that a value raises if it is not of its column's type."""


class LedgerScan:
    """Reads the ledger once, in the order in which it was written, however long it is.

    It reads transfers that have ended and never change again, so it may read them in many short snapshots. `advance`
    can be called again when more transfers have ended.
    """

    def __init__(
        self,
        report: Report,
        computed: ComputedAccounts,
        start: Block | None,
        progress: Progress,
        scars: Sequence[ScarRow] = (),
    ) -> None:
        """Begin after a block that was verified before, or at the very beginning. `scars` are those after it."""
        self._report, self._computed, self._progress = report, computed, progress
        self._previous = start
        self._leg = self._first_leg = start.next_leg_id - 1 if start else 0
        self._sequence = self._checked = 0
        self._current: Block | None = None
        self._sealer = Sealer()
        self._scars = ScarredBlocks(scars)
        self._cancelled: set[int] = set()
        """Transfers that a block cancelled while an older one was pending. The scan has not reached them yet."""

    def begin_behind(self, connection: Connection, start: Block) -> None:
        """Read the last transfer settled up to a block, and the later transfers that were cancelled by then."""
        self._sequence, self._cancelled = rows.front(connection, start.height)
        self._checked = self._sequence

    def advance(self, connection: Connection, extent: Extent, let_go: Callable[[], None]) -> None:
        """Continue up to the end of `extent`. `let_go` ends a snapshot, and is called between two reads."""
        legs = _Peekable(self._legs(connection, extent, let_go))
        following = self._blocks(connection, extent, let_go)
        for transfer in self._transfers(connection, extent, let_go):
            while self._current is None or transfer.terms.sequence > self._current.last_sequence:
                self._close()
                self._current = self._next_settled(connection, following)
                if self._current is None:
                    break
            own = [leg for leg in legs.up_to(transfer.terms.sequence) if self._take(connection, leg)]
            self._check_transfer(connection, transfer, own)
        for leg in legs.rest():
            if self._take(connection, leg):
                self._report.add(
                    "completed_has_legs",
                    f"leg {leg[0]}: transfer {leg[1]} has not ended, or is missing",
                    account=leg[2],
                    transfer=leg[1],
                )
        self._finish(connection, following)

    @property
    def cancelled_ahead(self) -> set[int]:
        """Transfers that blocks cancelled and the scan has not reached, because an older transfer is pending."""
        return self._cancelled

    @property
    def sequence(self) -> int:
        """The last transfer that was read."""
        return self._sequence

    # --- reading ---------------------------------------------------------------------------------------------

    def _legs(self, connection: Connection, extent: Extent, let_go: Callable[[], None]) -> Iterator[LegRow]:
        while found := rows.legs(connection, after=self._leg, through=extent.last_leg, limit=ROWS):
            let_go()
            rows.moved_on(self._leg, found[-1][0])
            for leg in found:
                self._leg = leg[0]
                self._report.transactions += 1
                if self._report.transactions % PROGRESS_EVERY == 0:
                    self._progress(self._report.transactions, extent.last_leg - self._first_leg)
                yield leg

    def _transfers(self, connection: Connection, extent: Extent, let_go: Callable[[], None]) -> Iterator[TransferRow]:
        while found := rows.transfers(connection, after=self._sequence, through=extent.front, limit=ROWS):
            let_go()
            rows.moved_on(self._sequence, found[-1].terms.sequence)
            for transfer in found:
                self._sequence = transfer.terms.sequence
                self._report.transfers += 1
                yield transfer

    def _blocks(self, connection: Connection, extent: Extent, let_go: Callable[[], None]) -> Iterator[Block]:
        first = self._previous.height + 1 if self._previous else 0
        while found := blocks.read(connection, first=first, last=extent.head.height if extent.head else -1, limit=ROWS):
            let_go()
            self._report.blocks += len(found)
            yield from self._scars.kept(found)
            first = rows.moved_on(first - 1, found[-1].height) + 1

    # --- legs and transfers ----------------------------------------------------------------------------------

    def _take(self, connection: Connection, leg: LegRow) -> bool:
        """Process a leg, and return whether its values are usable."""
        try:
            self._sealer.add_legs([leg])
        except UNREADABLE:
            self._report.add("values_are_integers", f"leg {leg[0]} holds {leg[1:]}", account=leg[2])
            return False
        self._computed.post(connection, leg)
        return True

    def _check_transfer(self, connection: Connection, row: TransferRow, legs: list[LegRow]) -> None:
        sequence = row.terms.sequence
        covered = self._current is not None and self._current.first_sequence <= sequence
        has_own_block = row.status == "cancelled" and (not self._covers_cancelled or sequence in self._cancelled)
        try:
            if covered and not has_own_block:
                self._sealer.add_ending(row.terms, row.status, row.settled_at or 0, row.failure)
            self._computed.send(connection, row.terms)
            self._check_legs(connection, row, legs)
        except UNREADABLE:
            self._report.add("values_are_integers", f"transfer {sequence} holds {tuple(row.terms)}", transfer=sequence)
        if has_own_block and sequence not in self._cancelled:
            self._report.add(
                "blocks_are_whole", f"transfer {sequence} is cancelled, and no block says so", transfer=sequence
            )
        elif not has_own_block and not covered:
            self._report.add(
                "blocks_are_whole", f"transfer {sequence} has ended, and no block covers it", transfer=sequence
            )
        self._cancelled.discard(sequence)
        self._checked = sequence
        check_ending(self._report, row)
        if row.failure == BatchError.FAILED and not batches.is_atomic(connection, sequence):
            self._report.add(
                "batch_is_whole", f"transfer {sequence} failed with a batch, and is in no atomic one", transfer=sequence
            )

    @property
    def _covers_cancelled(self) -> bool:
        return self._current is not None and self._current.kind.covers_cancelled

    def _check_legs(self, connection: Connection, row: TransferRow, legs: list[LegRow]) -> None:
        terms, say = row.terms, self._report.add
        sequence, amount = terms.sequence, terms.amount
        for leg in legs:
            if leg[1] != sequence:
                missing = leg[1] > self._checked
                rule, what = (
                    ("completed_has_legs", "is missing") if missing else ("legs_match_transfer", "has legs already")
                )
                say(rule, f"leg {leg[0]}: transfer {leg[1]} {what}", account=leg[2], transfer=leg[1])
        legs = [leg for leg in legs if leg[1] == sequence]
        if (row.status == "completed") != bool(legs):
            say(
                "completed_has_legs",
                f"transfer {sequence} is {row.status} and has {len(legs) or 'no'} legs",
                transfer=sequence,
            )
        if not legs:
            return
        sides = [(leg[2], leg[3]) for leg in legs]
        if sides != [(terms.from_account_id, -amount), (terms.to_account_id, amount)]:
            say("legs_match_transfer", f"legs of transfer {sequence} say {sides}, unlike it", transfer=sequence)
        currencies = {self._computed.currency(connection, account) for account, _ in sides} - {None}
        if not currencies <= {terms.currency}:
            say(
                "legs_match_transfer",
                f"transfer {sequence} is in {terms.currency}, its accounts in {currencies}",
                transfer=sequence,
            )

    # --- blocks ----------------------------------------------------------------------------------------------

    def _next_settled(self, connection: Connection, following: Iterator[Block]) -> Block | None:
        """Return the next block that covers a span of transfers, and check the cancellations on the way."""
        for block in following:
            if block.kind is not BlockKind.CANCELLATION:
                return block
            self._check_cancellation(connection, block)
        return None

    def _check_cancellation(self, connection: Connection, block: Block) -> None:
        transfer = rows.transfer(connection, block.first_sequence)
        made = None
        if transfer is not None and transfer.status == "cancelled" and self._previous is not None:
            made = cancellation(self._previous, transfer.terms, transfer.settled_at or 0)
        self._compare(block, made)
        if block.first_sequence in self._cancelled or block.first_sequence <= self._checked:
            self._report.add(
                "blocks_are_whole",
                f"block {block.height} cancels transfer {block.first_sequence} again",
                block=block.height,
            )
        self._cancelled.add(block.first_sequence)

    def _close(self) -> None:
        """Seal the rows read since the last block as that block was sealed, and compare."""
        if (block := self._current) is None:
            return
        scar = self._scars.of(block)
        made = self._sealer.seal(
            block.kind,
            self._previous,
            first_sequence=block.first_sequence,
            last_sequence=block.last_sequence,
            made_at=block.made_at,
            scar=scar,
        )
        if block.kind is BlockKind.SCAR and scar is None:
            self._report.add("blocks_are_whole", f"block {block.height} is a scar of nobody", block=block.height)
        self._compare(block, made)
        self._sealer, self._current = Sealer(), None

    def _compare(self, block: Block, made: Block | None) -> None:
        """Compare a block with the one made from the ledger. The next block is checked against this one as stored."""
        if made is None or made.outline != block.outline:
            ledger = f"{made.outline} with the hash {made.hash.hex()}" if made else "nothing"
            detail = f"block {block.height} says {block.outline}, the ledger {ledger}"
            self._report.add("blocks_are_whole", detail, block=block.height)
        elif made.hash != block.hash:
            detail = f"block {block.height} does not have the hash of the rows that it covers: {made.hash.hex()}"
            self._report.add("block_recomputes", detail, block=block.height)
        self._previous = block

    def _finish(self, connection: Connection, following: Iterator[Block]) -> None:
        """Close the last block, and every block that covers missing rows."""
        while True:
            self._close()
            self._current = self._next_settled(connection, following)
            if self._current is None:
                return


def check_ending(report: Report, row: TransferRow) -> None:
    """Check that a transfer has the time, the reason and the payer that its status requires, and no others."""
    has = (row.settled_at is not None, row.failure is not None)
    payer = row.terms.from_account_id if row.status in ("failed", "cancelled") else None
    if has != (row.status != "pending", row.status == "failed") or row.payer_id != payer:
        report.add(
            "ending_is_whole",
            f"transfer {row.terms.sequence} is {row.status}: {row.settled_at}, {row.failure}, payer {row.payer_id}",
            transfer=row.terms.sequence,
        )


class _Peekable:
    """Legs that can be taken up to a transfer."""

    def __init__(self, legs: Iterator[LegRow]) -> None:
        self._legs = legs
        self._next = next(legs, None)

    def up_to(self, sequence: int) -> Iterator[LegRow]:
        """Take the legs of a transfer, and those before them that belong to no transfer."""
        while (leg := self._next) is not None and leg[1] <= sequence:
            self._next = next(self._legs, None)
            yield leg

    def rest(self) -> Iterator[LegRow]:
        """Take the remaining legs."""
        while (leg := self._next) is not None:
            self._next = next(self._legs, None)
            yield leg
