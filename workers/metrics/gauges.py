"""The scheduler's gauges of database, queue, disk and backups. They are read at each scrape and not stored."""

import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType

from dramatiq.brokers.redis import RedisBroker
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from core.clock import now_us, to_datetime, to_us
from core.queue.broker import count_messages, probe
from core.queue.messages import SETTLEMENT_QUEUE
from core.services import clocks
from core.services.backups import shipments
from core.services.backups.manifests import kept
from core.services.statements.making import overdue_since
from core.services.verification.anchoring import last_anchor
from core.services.verification.stamping import unstamped_seconds
from core.settings import Settings
from core.storage import (
    blocks,
    dead_letters,
    documents,
    isolations,
    lanes,
    ledger_checks,
    scars,
    statement_runs,
    statements,
    transfers,
    verifications,
)
from core.storage.engines import Engine
from core.storage.unit_of_work import count_error
from core.telemetry.logging import get_logger
from workers.jobs import QUEUES

log = get_logger(__name__)

IMBALANCE_SECONDS = 60
"""How long the sums of all balances are reused, because computing them reads every account."""

HELP = {
    "giro_pending_transfers": "Transfers that wait to be settled.",
    "giro_oldest_pending_age_seconds": "Age of the oldest transfer that waits to be settled; 0 if none waits.",
    "giro_queue_up": "1 if the queue can be written and read, else 0.",
    "giro_queue_messages": "Messages in a queue, waiting or in work.",
    "giro_dead_letters": "Parked messages, whose work kept failing.",
    "giro_database_size_bytes": "Size of the database file, without its write-ahead log.",
    "giro_wal_size_bytes": "Size of the write-ahead log.",
    "giro_disk_free_bytes": "Free space on the database's disk that ordinary users can use.",
    "giro_disk_size_bytes": "Size of the database's disk.",
    "giro_statement_groups": "Groups of accounts in unfinished statement runs.",
    "giro_statement_groups_undone": "Groups of accounts whose statements are not made yet.",
    "giro_statements_requested": "Requested statements that are not made yet.",
    "giro_documents_pending": "Large documents that wait to be made.",
    "giro_oldest_document_age_seconds": "Age of the oldest large document that waits to be made; 0 if none waits.",
    "giro_statements_overdue_seconds": "Time since the end of the oldest month with missing statements.",
    "giro_verification_timestamp_seconds": "When the last verification of the whole ledger ended.",
    "giro_verification_duration_seconds": "How long the last verification of the whole ledger took.",
    "giro_verification_breaches": "Broken rules that the last verification found.",
    "giro_isolated_accounts": "Accounts that are set apart because the ledger is broken there.",
    "giro_ledger_scars": "Scars in the chain of blocks.",
    "giro_block_height": "Height of the newest block.",
    "giro_anchored_height": "Height of the block in the last anchor; -1 before the first anchor.",
    "giro_unanchored_seconds": "How long the oldest block above the last anchor has waited; 0 if none waits.",
    "giro_unstamped_seconds": "How much newer the last anchor is than the last stamped one; 0 without stamps.",
    "giro_backup_timestamp_seconds": "When the copy of the newest backup began. It has all that was answered before.",
    "giro_backup_size_bytes": "Size of the newest backup.",
    "giro_backup_duration_seconds": "How long the newest backup took, with its verification.",
    "giro_backup_interval_seconds": "Age of the newest backup at which the next one is made; 0: no backups are made.",
    "giro_backup_shipped_timestamp_seconds": "When everything was last shipped; missing if nothing ever was.",
    "giro_imbalance_minor_units": "Sum of all balances of a currency, which must be 0.",
    "giro_clock_in_doubt": "1 if no month is closed and nothing expires until an operator confirms the clock, else 0.",
    "giro_clock_difference_seconds": "How far the clock is ahead of what it should show; negative if it is behind.",
    "giro_ledger_ahead_seconds": "How far the newest transaction is ahead of this clock; 0 if it is not.",
}
LABELS = {"giro_queue_messages": ["queue"], "giro_imbalance_minor_units": ["currency"]}

Reading = Iterator[tuple[str, float | Mapping[str, float]]]
"""Pairs of a gauge's name and its value, or its values by label."""


class Gauges(Collector):
    """Reads the sources at each scrape, in the thread that answers it.

    If a source is not available, its gauges are left out, since an old value would mislead. This is logged once.
    """

    def __init__(self, database: Engine, broker: RedisBroker, settings: Settings) -> None:
        self._database = database
        self._anchors = settings.anchor_path
        self._stamps = bool(settings.anchor_stamp_url)
        self._broker = broker
        self._zone = settings.zone
        self._backups = settings.backups_path
        self._backup_hours = settings.backup_hours
        self._one_scrape = threading.Lock()
        self._away: set[str] = set()
        self._imbalances: dict[str, int] = {}
        self._imbalances_until = 0.0

    def describe(self) -> Iterable[Metric]:
        """Return the gauges without values. The registry calls this at registration, so it reads nothing."""
        return [_family(name) for name in HELP]

    def collect(self) -> Iterable[Metric]:
        """Read all sources. Never raises: gauges that cannot be read are left out."""
        with self._one_scrape:
            readings = (
                ("disk", self._of_disk),
                ("queue", self._of_queue),
                ("database", self._of_database),
                ("backups", self._of_backups),
            )
            return [_family(name, value) for source, read in readings for name, value in self._try(source, read)]

    def _try(self, source: str, read: Callable[[], Reading]) -> list[tuple[str, float | Mapping[str, float]]]:
        try:
            found = list(read())
        except Exception as error:
            if isinstance(error, DBAPIError):
                count_error(self._database, error)
            if source not in self._away:
                log.warning("metrics_source_away", source=source, error=f"{type(error).__name__}: {error}")
            self._away.add(source)
            return [("giro_queue_up", 0)] if source == "queue" else []
        self._away.discard(source)
        return found

    def _of_disk(self) -> Reading:
        disk = shutil.disk_usage(self._database.folder)
        yield "giro_disk_free_bytes", disk.free
        yield "giro_disk_size_bytes", disk.total
        sizes = self._database.sizes()
        yield "giro_database_size_bytes", sizes.database
        yield "giro_wal_size_bytes", sizes.log

    def _of_queue(self) -> Reading:
        probe(self._broker)
        yield (
            "giro_queue_messages",
            {queue: count_messages(self._broker, queue) for queue in (SETTLEMENT_QUEUE, *QUEUES)},
        )
        yield "giro_queue_up", 1

    def _of_backups(self) -> Reading:
        yield "giro_backup_interval_seconds", self._backup_hours * 3600
        backups = kept(self._backups)
        if backups:
            _, newest = backups[-1]
            yield "giro_backup_timestamp_seconds", newest.made_at.timestamp()
            yield "giro_backup_size_bytes", newest.size_bytes
            yield "giro_backup_duration_seconds", newest.duration_seconds
        current = shipments.current_path(self._backups)
        if current.exists():
            yield "giro_backup_shipped_timestamp_seconds", current.stat().st_mtime

    def _of_database(self) -> Reading:
        with self._database.reading() as connection:
            yield from self._of_transfers(connection)
            yield from self._of_jobs(connection)
            yield from self._of_blocks(connection)
            clock = clocks.state(connection)
            yield "giro_clock_in_doubt", clock.doubt is not None
            yield "giro_clock_difference_seconds", clock.difference / 1e6
            yield "giro_imbalance_minor_units", self._sums(connection)

    def _of_transfers(self, connection: Connection) -> Reading:
        backlog, now = transfers.backlog(connection), now_us()
        oldest = now if backlog.oldest_created_at is None else backlog.oldest_created_at
        yield "giro_pending_transfers", backlog.pending
        yield "giro_oldest_pending_age_seconds", max(now - oldest, 0) / 1e6
        yield "giro_ledger_ahead_seconds", max(lanes.read(connection).posted_at - now, 0) / 1e6

    def _of_jobs(self, connection: Connection) -> Reading:
        yield "giro_dead_letters", dead_letters.count_parked(connection)
        groups, undone = statement_runs.count_groups(connection)
        yield "giro_statement_groups", groups
        yield "giro_statement_groups_undone", undone
        yield "giro_statements_requested", statements.count_requested(connection)
        pending, oldest = documents.backlog(connection, to_datetime(now_us()))
        yield "giro_documents_pending", pending
        yield "giro_oldest_document_age_seconds", max(now_us() - to_us(oldest), 0) / 1e6 if oldest else 0
        since = overdue_since(connection, self._zone)
        yield "giro_statements_overdue_seconds", max(now_us() - to_us(since), 0) / 1e6 if since else 0
        last = verifications.newest_full(connection)
        if last is not None:
            yield "giro_verification_timestamp_seconds", last.finished_at.timestamp()
            yield "giro_verification_duration_seconds", (last.finished_at - last.started_at).total_seconds()
            yield "giro_verification_breaches", verifications.newest_breaches(connection)

    def _of_blocks(self, connection: Connection) -> Reading:
        head, anchor = blocks.head(connection), last_anchor(self._anchors)
        anchored = anchor.height if anchor else -1
        waiting = blocks.at(connection, anchored + 1)
        yield "giro_isolated_accounts", len(isolations.accounts(connection))
        yield "giro_ledger_scars", len(scars.confirmed(connection))
        yield "giro_unstamped_seconds", unstamped_seconds(self._anchors) if self._stamps else 0
        yield "giro_block_height", head.height
        yield "giro_anchored_height", anchored
        yield (
            "giro_unanchored_seconds",
            max(now_us() - waiting.made_at, 0) / 1e6 if waiting and waiting.ending_count else 0,
        )

    def _sums(self, connection: Connection) -> Mapping[str, float]:
        now = time.monotonic()
        if now >= self._imbalances_until:
            self._imbalances = ledger_checks.imbalances(connection)
            self._imbalances_until = now + IMBALANCE_SECONDS
        return self._imbalances


def _family(name: str, value: float | Mapping[str, float] = MappingProxyType({})) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, HELP[name], labels=LABELS.get(name, []))
    values = value.items() if isinstance(value, Mapping) else [(None, value)]
    for label, number in values:
        family.add_metric([] if label is None else [label], number)
    return family
