"""Verification: reads the ledger and reports broken rules. It changes nothing.

Transfers that have ended never change, so they are read in many short snapshots, which do not keep the write-ahead log
from being truncated. One last snapshot compares the accounts with the rows read. Memory use grows with the number of
accounts, and not with the ledger.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from core.clock import now_us
from core.domain.blocks import Block
from core.domain.isolation import Isolation
from core.domain.scars import in_effect
from core.domain.verification import Breach, Scope
from core.services.verification.anchors import AnchorKeyMissing, Anchors, check_anchors
from core.services.verification.batches import check_batches
from core.services.verification.computed_accounts import ComputedAccounts
from core.services.verification.kept import (
    LedgerHalted,
    find_breach,
    isolated_accounts,
    keep,
    keep_breach,
    last,
    require_sound,
)
from core.services.verification.report import MOST_BREACHES, RULES, Report
from core.services.verification.scan import LedgerScan, Progress, check_ending
from core.services.verification.scars import tell_scars
from core.services.verification.statements import check_statements
from core.storage import blocks, isolations, ledger_checks, ledger_rows, scars, verifications
from core.storage.engines import Engine
from core.storage.ledger_rows import Extent

__all__ = [
    "MOST_BREACHES",
    "RULES",
    "AnchorKeyMissing",
    "Anchors",
    "Breach",
    "LedgerHalted",
    "Progress",
    "Report",
    "find_breach",
    "isolated_accounts",
    "keep",
    "keep_breach",
    "last",
    "require_sound",
    "verify",
    "verify_recent",
]

CATCH_UP_LEGS = 20_000
"""If at most this many legs were added meanwhile, they are read together with the accounts, in the last snapshot."""

MOST_CATCHING_UP = 10
"""The last snapshot is taken after this many rounds, however many legs were added."""

DAMAGED_VALUE = (ValueError, TypeError, OverflowError, LookupError)
"""Errors that a damaged value raises when it is converted to its type: a kind, a time, a text, an account."""

LONG_PENDING_SECONDS = 60
"""A transfer that has been pending for longer is worth a warning; it breaks no rule."""


def verify(
    database: Engine,
    *,
    anchors: Anchors | None = None,
    progress: Progress = lambda done, of: None,
    isolated: bool = True,
    most: int | None = None,
) -> Report:
    """Check every rule of `RULES` over the whole ledger; without `anchors` all but those about signatures.

    With `isolated`, breaches in isolated accounts are reported apart. At most `most` breaches of each rule are listed.
    """
    report = Report(Scope.FULL, most)
    with database.reading() as connection, _readable(database, report):
        report.isolation = isolations.current(connection) if isolated else None
        for difference in database.schema_differences(connection):
            report.add("schema_is_whole", difference)
        for complaint in database.complaints(connection):
            report.add("file_is_sound", complaint)
        _read(connection, report, None, progress)
        check_statements(connection, report, connection.rollback)
        for key, user_id, count in ledger_checks.doubled_keys(connection):
            report.add("keys_are_unique", f"user {user_id} has {count} transfers with the key {key}")
        for account, limit, was_set in ledger_checks.unset_overdraft_limits(connection):
            report.add(
                "limit_was_set",
                f"account {account} has an overdraft limit of {limit}, set was {was_set}",
                account=account,
            )
        connection.rollback()
        if anchors is not None:
            check_anchors(connection, report, anchors, connection.rollback)
    return report


def verify_recent(
    database: Engine, *, anchors: Anchors | None = None, progress: Progress = lambda done, of: None
) -> Report:
    """Check the rows that were added since the last verification, and the current state of every account.

    If that verification found breaches, or does not exist, the whole ledger is verified.
    """
    report, start = Report(Scope.RECENT), None
    with database.reading() as connection, _readable(database, report):
        start = _start(connection)
        connection.rollback()
    if start is None:
        return verify(database, anchors=anchors, progress=progress)
    with database.reading() as connection, _readable(database, report):
        report.isolation = isolations.current(connection)
        _read(connection, report, start, progress)
        if anchors is not None:
            check_anchors(connection, report, anchors, connection.rollback, since=start.height)
    return report


@contextmanager
def _readable(database: Engine, report: Report) -> Iterator[None]:
    """Report data that cannot be read as a breach. The rest of the ledger is then not checked."""
    try:
        yield
    except DBAPIError as error:
        if not database.is_damage(error):
            raise
        report.add("file_is_sound", f"{database.product} cannot read on: {error.orig}")
    except ledger_rows.Disordered as error:
        report.add("file_is_sound", f"rows are not in their order: {error}")
    except DAMAGED_VALUE as error:
        report.add("values_are_integers", f"a value is of no kind that is known here: {error}")


def _start(connection: Connection) -> Block | None:
    """Find the block that the last verification ended with. Returns None if the whole ledger must be read."""
    verified = verifications.last_head(connection)
    if verified is None or any(scar.height > verified.height for scar in scars.confirmed(connection)):
        return None
    block = blocks.at(connection, verified.height)
    return block if block is not None and block.hash == verified.hash else None


def _read(connection: Connection, report: Report, start: Block | None, progress: Progress) -> None:
    computed = ComputedAccounts(report, from_start=start is None)
    replacing = in_effect(scars.confirmed(connection)) if start is None else []  # none is later: see `_start`
    scan = LedgerScan(report, computed, start, progress, replacing)
    if start is not None:
        scan.begin_behind(connection, start)
    first = scan.sequence
    extent = ledger_rows.extent(connection)
    for _ in range(MOST_CATCHING_UP):
        connection.rollback()
        scan.advance(connection, extent, connection.rollback)
        read, extent = extent, ledger_rows.extent(connection)
        if extent.last_leg - read.last_leg <= CATCH_UP_LEGS:
            break
    scan.advance(connection, extent, _keep_hold)
    pending = _check_pending(connection, report, scan, computed, extent.newest)
    _check_lanes(report, extent)
    if start is None:
        ended = report.transfers - sum(count for _, count in pending.values())
        if (stored := ledger_rows.count_endings(connection)) != ended:
            report.add("ending_is_whole", f"{ended} transfers have ended, and {stored} endings are stored")
    _check_accounts(connection, report, computed, pending)
    tell_scars(connection, report)
    if extent.head is not None:
        report.height, report.head_hash = extent.head.height, extent.head.hash
    progress(report.transactions, report.transactions)
    connection.rollback()
    check_batches(connection, report, after=first, through=scan.sequence, let_go=connection.rollback)


def _keep_hold() -> None:
    """Keep the last snapshot open."""


def _check_pending(
    connection: Connection, report: Report, scan: LedgerScan, computed: ComputedAccounts, newest: int
) -> dict[int, tuple[int, int]]:
    """Check the pending transfers, and those cancelled among them.

    Returns the sum that each account must reserve, and the number of its pending transfers.
    """
    pending: dict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))
    cancelled, old, after = scan.cancelled_ahead, 0, scan.sequence
    while found := ledger_rows.transfers(connection, after=after, through=newest, limit=1000):
        for row in found:
            sequence = row.terms.sequence
            report.transfers += 1
            computed.send(connection, row.terms)
            check_ending(report, row)
            if row.status == "pending" and type(row.terms.amount) is int:
                reserved, count = pending[row.terms.from_account_id]
                pending[row.terms.from_account_id] = reserved + row.terms.amount, count + 1
                old += row.terms.created_at < now_us() - LONG_PENDING_SECONDS * 1_000_000
            elif row.status == "pending":
                report.add("values_are_integers", f"transfer {sequence} holds {tuple(row.terms)}", transfer=sequence)
            elif row.status != "cancelled" or sequence not in cancelled:
                report.add(
                    "blocks_are_whole", f"transfer {sequence} is {row.status}, and no block says so", transfer=sequence
                )
            cancelled.discard(sequence)
        after = ledger_rows.moved_on(after, found[-1].terms.sequence)
    for sequence in sorted(cancelled):
        report.add(
            "blocks_are_whole", f"a block cancels transfer {sequence}, which is not cancelled", transfer=sequence
        )
    if old:
        report.warnings.append(f"{old} transfers have been pending for more than {LONG_PENDING_SECONDS} s")
    return pending


def _check_lanes(report: Report, extent: Extent) -> None:
    """Check that the lanes go on where the rows end."""
    found = extent.lanes
    numbers = (found.next_transfer, found.next_leg, found.watermark)
    expected = (extent.newest + 1, extent.last_leg + 1, extent.front)
    if numbers != expected:
        report.add("lanes_go_on", f"the lanes say {numbers} (next transfer, next leg, watermark), the rows {expected}")
    if extent.newest_ending > extent.newest:
        report.add("lanes_go_on", f"transfer {extent.newest_ending} has ended and was never accepted")
    if (times := (found.accepted_at, found.posted_at)) != extent.times:
        report.add("lanes_go_on", f"the lanes go on at {times} (acceptance, posting), the rows at {extent.times}")


def _check_accounts(
    connection: Connection, report: Report, computed: ComputedAccounts, pending: dict[int, tuple[int, int]]
) -> None:
    isolation = report.isolation or Isolation()
    balances: Counter[str] = Counter()
    legs: Counter[str] = Counter()
    for account in ledger_rows.accounts(connection):
        report.accounts += 1
        total = computed.check(connection, account, pending.get(account.id, (0, 0)))
        if account.id in isolation.accounts:
            continue
        legs[account.currency] += total
        if type(account.balance) is int:
            balances[account.currency] += account.balance
    computed.check_milestones(connection)
    for stranger in sorted(computed.strangers):
        report.add("chain_is_whole", f"account {stranger} has legs and does not exist", account=stranger)
    for sums, what in ((balances, "balances"), (legs, "legs")):
        for currency, total in sums.items():
            if total != (expected := isolation.sums.get(currency, 0)):
                rest = f", not {expected}, without isolated accounts" if expected else ""
                report.add("currency_sums_to_zero", f"{currency}: the {what} sum to {total}{rest}")
