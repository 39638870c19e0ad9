"""What verifications found, kept in the database: operators read it, and settlement stops where a rule is broken."""

import json
from datetime import datetime

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import now_us, to_datetime
from core.models import Verification
from core.services.verification.report import Report
from core.storage import blocks, transactions
from core.storage import verification as rows


def keep(connection: Connection, report: Report, *, started_at: datetime) -> bool:
    """Keep what a verification found, and say whether it was kept.

    One that holds is not, if another has ended since it began and does not hold: it may not have looked at what that
    one has found broken, and must not free the ledger.
    """
    newest = rows.newest(connection)
    if report.holds and newest is not None and newest[2] and newest[1] >= started_at:
        return False
    rows.add(
        connection,
        scope=report.scope,
        started_at=started_at,
        finished_at=to_datetime(now_us()),
        accounts=report.accounts,
        transfers=report.transfers,
        transactions=report.transactions,
        breaches=report.counts.total(),
        details=json.dumps([[breach.rule, breach.detail] for breach in report.breaches]),
        height=report.height,
        head_hash=report.head_hash,
        anchored_height=report.anchored_height,
    )
    return True


def breaches_of(verification: Verification) -> list[tuple[str, str]]:
    """List what a verification that was kept has found: rule and detail of each breach."""
    return [(rule, detail) for rule, detail in json.loads(verification.details)]


async def last(session: AsyncSession) -> Verification | None:
    """Read what the last verification found; None before the first."""
    return await rows.last(session)


def is_sound(connection: Connection) -> bool:
    """Say whether the ledger may be built on; for whoever is to, with the lock held. Costs microseconds.

    It may not while the last verification that was kept found breaches, or when its last leg is not the last one that
    the chain of blocks covers: an end that was cut off or added. That is then kept as a breach.
    """
    if rows.newest_breaches(connection):
        return False
    head, following = blocks.newest(connection), transactions.next_id(connection)
    if head is not None and head.next_leg_id == following:
        return True
    report = Report()
    ends = f"the chain ends before leg {head.next_leg_id}" if head else "there is no chain of blocks"
    report.add("blocks_are_whole", f"{ends}, and the next leg would be {following}")
    keep(connection, report, started_at=to_datetime(now_us()))
    return False
