"""Settlement: executing pending transfers in the order of their acceptance, many in one unit of work."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from logging import DEBUG

from sqlalchemy import Connection

from core.clock import now_us
from core.domain import ledger
from core.domain.batches import BatchError
from core.domain.blocks import BlockKind, Ending, Sealer
from core.domain.errors import ErrorCode
from core.domain.lanes import Lane
from core.domain.ledger import FAILURES, LedgerAccount
from core.domain.transfers import Terms, TransferStatus
from core.failpoints import hit
from core.services import verification
from core.storage import (
    accounts,
    batches,
    blocks,
    isolations,
    lanes,
    running_totals,
    statement_runs,
    transactions,
    transfers,
)
from core.storage.batches import Span
from core.storage.engines import Engine
from core.storage.lanes import Lanes
from core.storage.unit_of_work import unit_of_work
from core.telemetry import tracing
from core.telemetry.logging import get_logger
from core.telemetry.metrics import settlement as metrics
from core.telemetry.tracing import SETTLE, Kind, Tracer
from core.telemetry.tracing.ids import in_hex

log = get_logger(__name__)

FIRST_CHUNK = 128
"""Transfers settled before the first check for waiting writers: some two milliseconds of work."""
LARGEST_CHUNK = 2048
LOGGED_REQUEST_IDS = 20


COMPLETED, FAILED = TransferStatus.COMPLETED.value, TransferStatus.FAILED.value


@dataclass(slots=True)
class _Unit:
    """The work of one settlement."""

    lanes: Lanes
    """Where the lanes stood at its start."""
    settled_at: int
    """When all its legs are posted, in microseconds since the epoch."""
    next_leg: int
    """The row id of its next leg."""
    rows: list[Terms] = field(default_factory=list)
    failed: dict[int, ErrorCode] = field(default_factory=dict)
    """The reasons of failed transfers, by sequence."""
    sealer: Sealer = field(default_factory=Sealer)
    isolated: frozenset[int] = frozenset()
    """Accounts that are set apart because the ledger is broken there. Transfers from and to them fail, as if frozen."""


def count_from_zero() -> None:
    """Start the counter of each failure at 0, so that its first increase is visible. For the process that settles."""
    metrics.settlement_halted.set(0)
    for reason in FAILURES:
        metrics.transfers_settled.labels("failed", reason.value)


def settle_pending(database: Engine, *, batch: int, lock_ms: float, stop: Callable[[], bool] = lambda: False) -> int:
    """Settle all pending transfers, in as many units of work as needed, and return how many ended.

    `batch` is the maximum number of transfers in one unit of work. A unit of work ends after `lock_ms` milliseconds if
    another writer waits. `stop` is called between units of work. Raises Unavailable if the database cannot be written.
    """
    total, is_left = 0, True
    while is_left and not stop():
        settled, is_left = _settle_once(database, batch, lock_ms)
        total += settled
    return total


def _settle_once(database: Engine, limit: int, lock_ms: float) -> tuple[int, bool]:
    """Settle in one unit of work. Returns how many transfers ended, and whether more may be pending.

    A transfer that is accepted afterwards has its own wake-up, so no further check is needed.
    """
    is_left = True
    with unit_of_work(database, Lane.SETTLE) as connection:
        # Everything is read here, inside the lock. Reading before the lock would miss a freeze or an accept in between.
        started = time.perf_counter()
        if not _is_free(connection):
            return 0, False
        unit = _begin(connection)
        known: dict[int, LedgerAccount] = {}
        chunk = FIRST_CHUNK
        while is_left and len(unit.rows) < limit:
            wanted = min(chunk, limit - len(unit.rows))
            is_left = _settle_chunk(connection, unit, known, wanted) >= wanted
            elapsed_ms = (time.perf_counter() - started) * 1000
            if elapsed_ms > lock_ms and database.others_wait():
                break
            chunk = min(chunk * 2, LARGEST_CHUNK)
        if unit.rows:
            _write_accounts(connection, unit, known.values())
            _seal(connection, unit)
            _move_on(connection, unit)
            hit("settle.before_commit")
    if unit.rows:
        hit("settle.after_commit")
        _report(unit, time.perf_counter() - started)
    return len(unit.rows), is_left


def _is_free(connection: Connection) -> bool:
    """Return whether settlement is allowed. If it is not, store the breach that halts it."""
    sound = True
    try:
        verification.require_sound(connection)
    except verification.LedgerHalted as halted:
        sound = False
        verification.keep_breach(connection, halted)
    if sound != _Halt.sound:
        _Halt.sound = sound
        metrics.settlement_halted.set(not sound)
        if sound:
            log.warning("settlement_goes_on")
        else:
            log.error("settlement_halted", why="the ledger does not verify: run `giro verify`")
    return sound


class _Halt:
    """The state that this process logged last, so that it logs each change once."""

    sound = True


def _begin(connection: Connection) -> _Unit:
    """Begin where settling stands.

    Even if the clock goes back, legs are not posted before the last leg, the newest account or the newest transfer,
    and not in a closed month, whose statements are made.
    """
    found, closed = lanes.read(connection), statement_runs.closed_until(connection)
    settled_at = max(now_us(), found.newest_at, closed, accounts.last_opened_at(connection))
    return _Unit(found, settled_at, found.next_leg, isolated=isolations.accounts(connection))


def _settle_chunk(connection: Connection, unit: _Unit, known: dict[int, LedgerAccount], limit: int) -> int:
    """Settle up to `limit` more transfers; `known` has the accounts of the earlier ones, as they are now."""
    after = unit.rows[-1].sequence if unit.rows else unit.lanes.watermark
    rows = transfers.read_pending(connection, after=after, limit=limit)
    if not rows:
        return 0
    atomic = batches.atomic_spans(connection, rows[0].sequence, rows[-1].sequence)
    if atomic and atomic[-1][1] > (last := rows[-1].sequence):  # never split, even above the limit
        rows += transfers.read_pending(connection, after=last, limit=atomic[-1][1] - last)
    met = {account for row in rows for account in (row.from_account_id, row.to_account_id)}
    for account in accounts.read_for_settlement(connection, list(met - known.keys())):
        if account.id in unit.isolated:
            account.isolate()
        known[account.id] = account
    outcome = ledger.settle(rows, known, next_leg_id=unit.next_leg, posted_at=unit.settled_at, atomic=atomic)
    unit.failed |= outcome.failed
    hit("settle.before_write")
    transactions.add(connection, outcome.legs)
    running_totals.add(connection, outcome.milestones)
    batches.fail(connection, _culprits(outcome.failed, atomic))
    unit.sealer.add_legs(outcome.legs)
    hit("settle.between_writes")
    _end(connection, unit, rows)
    unit.next_leg += len(outcome.legs)
    unit.rows += rows
    return len(rows)


def _write_accounts(connection: Connection, unit: _Unit, met: Collection[LedgerAccount]) -> None:
    """Write back the accounts that were met. Of an isolated one only what it reserves has changed."""
    accounts.write_settled(connection, [account for account in met if account.id not in unit.isolated])
    accounts.release_isolated(connection, [account for account in met if account.id in unit.isolated])


def _culprits(failed: dict[int, ErrorCode], atomic: Sequence[Span]) -> list[tuple[int, int]]:
    """Return the index of the line that made each atomic batch fail, and the batch's first sequence."""
    if not atomic:
        return []
    culprits = [sequence for sequence, reason in failed.items() if reason is not BatchError.FAILED]
    return [(culprit - first, first) for first, last in atomic for culprit in culprits if first <= culprit <= last]


def _end(connection: Connection, unit: _Unit, rows: Sequence[Terms]) -> None:
    """Write how transfers ended: first all that have legs, then the failed ones."""
    endings = []
    for row in rows:
        reason = unit.failed.get(row.sequence)
        endings.append(Ending(row, COMPLETED if reason is None else FAILED, unit.settled_at, reason and reason.value))
    unit.sealer.add_endings(endings)
    transfers.complete(connection, first_leg=unit.next_leg, ended_at=unit.settled_at)
    transfers.end(connection, [ending for ending in endings if ending.failure is not None])


def _seal(connection: Connection, unit: _Unit) -> None:
    """Write the block of the settled transfers."""
    block = unit.sealer.seal(
        BlockKind.SETTLEMENT,
        blocks.head(connection),
        first_sequence=unit.rows[0].sequence,
        last_sequence=unit.rows[-1].sequence,
        made_at=unit.settled_at,
    )
    blocks.add(connection, block)


def _move_on(connection: Connection, unit: _Unit) -> None:
    """Write where settling goes on."""
    has_legs = unit.next_leg > unit.lanes.next_leg
    posted_at = unit.settled_at if has_legs else unit.lanes.posted_at
    lanes.settled(connection, unit.lanes, next_leg=unit.next_leg, posted_at=posted_at, through=unit.rows[-1].sequence)


def _report(unit: _Unit, seconds: float) -> None:
    """Log and count the settlement, after the commit."""
    now = now_us()
    failed = unit.failed
    metrics.settlement_batch_size.observe(len(unit.rows))
    metrics.settlement_duration.observe(seconds)
    metrics.transfers_settled.labels("completed", "").inc(len(unit.rows) - len(failed))
    for reason, count in Counter(failed.values()).items():
        metrics.transfers_settled.labels("failed", reason.value).inc(count)
    exemplars = {} if tracing.active is None else _trace(tracing.active, unit, now, seconds)
    for created_at, count in Counter(row.created_at for row in unit.rows).items():
        metrics.transfer_lifetime.observe_many((now - created_at) / 1e6, count, exemplars.get(created_at))
    if log.is_enabled_for(DEBUG):
        _log_each(unit)
    log.info(
        "settled",
        count=len(unit.rows),
        failed=len(failed),
        first_sequence=unit.rows[0].sequence,
        last_sequence=unit.rows[-1].sequence,
        duration_ms=round(seconds * 1000, 3),
        request_ids=[row.request_id for row in unit.rows[:LOGGED_REQUEST_IDS]],
    )


def _trace(tracer: Tracer, unit: _Unit, now: int, seconds: float) -> dict[int, dict[str, str]]:
    """Send the spans of a unit of work, one for the transfers of each sampled request.

    Returns an exemplar for each time of acceptance that has a sampled transfer: its trace id.
    """
    sampled = tracer.sampled(row.request_id for row in unit.rows)
    by_request: dict[str, list[Terms]] = defaultdict(list)
    for row in unit.rows:
        if row.request_id in sampled:
            by_request[row.request_id].append(row)
    for request_id, rows in by_request.items():
        tracer.send_part(
            sampled[request_id], SETTLE, now - round(seconds * 1e6), now, _attributes(unit, rows), kind=Kind.CONSUMER
        )
    return {
        row.created_at: {"trace_id": in_hex(sampled[request_id])}
        for request_id, rows in by_request.items()
        for row in rows
    }


def _attributes(unit: _Unit, rows: Sequence[Terms]) -> dict[str, str | int]:
    """Describe the transfers of one request that a unit of work settled. A failed one is a result, not an error."""
    failures = [unit.failed[row.sequence] for row in rows if row.sequence in unit.failed]
    status = COMPLETED if not failures else FAILED if len(failures) == len(rows) else "mixed"
    attributes: dict[str, str | int] = {
        "giro.sequence": rows[0].sequence,
        "giro.status": status,
        "giro.count": len(rows),
        "giro.failed": len(failures),
    }
    if len(rows) == len(failures) == 1:
        attributes["giro.failure_code"] = failures[0].value
    return attributes


def _log_each(unit: _Unit) -> None:
    for row in unit.rows:
        log.debug(
            "transfer_settled",
            sequence=row.sequence,
            status="failed" if row.sequence in unit.failed else "completed",
            failure_code=unit.failed.get(row.sequence),
            request_id=row.request_id,
        )
