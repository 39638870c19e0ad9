"""Checks batches against their transfers."""

from collections.abc import Callable

from sqlalchemy import Connection

from core.services.verification.report import Report
from core.storage import ledger_rows as rows
from core.storage.ledger_rows import BatchRow

BATCHES = 10
"""Batches read in one snapshot. It takes some ten milliseconds if they are large."""


def check_batches(
    connection: Connection, report: Report, *, after: int, through: int, let_go: Callable[[], None]
) -> None:
    """Check the batches whose first transfer comes after `after` and up to `through`. All of it has ended."""
    while found := rows.batches(connection, after=after, through=through, limit=BATCHES):
        let_go()
        for batch in found:
            for complaint in _complaints(batch):
                about = f"batch of transfers {batch.first} to {batch.last}: {complaint}"
                report.add("batch_is_whole", about, transfer=batch.first)
        after = rows.moved_on(after, found[-1].first)


def _complaints(batch: BatchRow) -> list[str]:
    said = []
    if (batch.transfers, batch.submitters, batch.times) != (batch.last - batch.first + 1, 1, 1):
        said.append(
            f"{batch.transfers} transfers, submitted by {batch.submitters} users, accepted at {batch.times} times"
        )
    if batch.next_first is not None and batch.next_first <= batch.last:
        said.append(f"the next one begins at {batch.next_first}")
    if not batch.is_atomic:
        if batch.failed_with_it:
            said.append(f"{batch.failed_with_it} failed with an independent batch")
    elif batch.failed_index is None:
        if batch.completed != batch.transfers:
            said.append(f"{batch.completed} of {batch.transfers} completed")
    elif (batch.completed, batch.failed_with_it, batch.culprit) != (
        0,
        batch.transfers - 1,
        batch.first + batch.failed_index,
    ):
        said.append(
            f"failed because of line {batch.failed_index}, yet {batch.completed} completed, {batch.failed_with_it} "
            f"failed with it, and transfer {batch.culprit} by itself"
        )
    return said
