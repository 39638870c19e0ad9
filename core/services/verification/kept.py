"""Stored results of verifications. Operators read them, and settlement stops while a rule is broken."""

from datetime import datetime

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import now_us, to_datetime
from core.domain.errors import Unavailable
from core.domain.verification import VerificationView
from core.services.verification.report import Report
from core.storage import blocks, isolations, lanes, transactions
from core.storage import verifications as rows


def keep(connection: Connection, report: Report, *, started_at: datetime) -> bool:
    """Store the result of a verification, and return whether it was stored.

    A result without breaches is not stored if another verification has found breaches since this one began. This one
    may have read the ledger before it was broken, and must not release the halt.
    """
    newest = rows.newest(connection)
    if report.holds and newest is not None and newest.breach_count and newest.finished_at >= started_at:
        return False
    result = VerificationView(
        scope=report.scope,
        started_at=started_at,
        finished_at=to_datetime(now_us()),
        accounts=report.accounts,
        transfers=report.transfers,
        transactions=report.transactions,
        breach_count=report.counts.total(),
        breaches=tuple(report.breaches),
        height=report.height,
        head_hash=report.head_hash,
        anchored_height=report.anchored_height,
    )
    rows.add(connection, result)
    return True


async def last(session: AsyncSession) -> VerificationView | None:
    """Read the result of the last verification; None before the first."""
    return await rows.last(session)


async def isolated_accounts(session: AsyncSession) -> int:
    """Return how many accounts are set apart because the ledger is broken there."""
    connection = await session.connection()
    return len(await connection.run_sync(isolations.accounts))


class LedgerHalted(Unavailable):
    """The ledger does not verify, so no transfer may end: nothing was recorded for the caller.

    `breach` is a breach that was found just now; None if a stored verification has found breaches already. The code
    that rolls the caller's work back stores it with `keep_breach`.
    """

    def __init__(self, breach: Report | None = None) -> None:
        super().__init__("The ledger does not verify, so nothing is ended; nothing was recorded.")
        self.breach = breach


def require_sound(connection: Connection) -> None:
    """Raise LedgerHalted unless transfers may end. The caller must hold the lock. This takes microseconds.

    They may not end if the last stored verification found breaches, or if `find_breach` finds one.
    """
    if rows.newest_breaches(connection):
        raise LedgerHalted
    if breach := find_breach(connection):
        raise LedgerHalted(breach)


def find_breach(connection: Connection) -> Report | None:
    """Compare the last leg with the last one in the chain of blocks, and with the number of the next one.

    Returns None if they agree.
    """
    head, following = blocks.newest(connection), transactions.next_id(connection)
    numbered = lanes.read(connection).next_leg
    if head is not None and head.next_leg_id == following == numbered:
        return None
    report = Report()
    if head is None or head.next_leg_id != following:
        ends = f"the chain ends before leg {head.next_leg_id}" if head else "there is no chain of blocks"
        report.add("blocks_are_whole", f"{ends}, and the next leg would be {following}")
    if numbered != following:
        report.add("lanes_go_on", f"the next leg would get the number {numbered}, not {following}")
    return report


def keep_breach(connection: Connection, halted: LedgerHalted) -> None:
    """Store the breach that halted the ledger just now, unless a breach was stored before."""
    if halted.breach is not None:
        keep(connection, halted.breach, started_at=to_datetime(now_us()))
