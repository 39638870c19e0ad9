"""The actor that makes backups. It is on the jobs queue, so it never runs during a checkpoint or a verification."""

from functools import partial
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from core.domain.dead_letters import Letter
from core.queue.messages import BACK_UP, JOBS_QUEUE
from core.services.backups import making
from core.settings import Settings
from core.storage.sqlite.engine import Database
from core.telemetry.logging import get_logger
from workers.guard import Guard

log = get_logger(__name__)


def back_up(database: Database, settings: Settings) -> None:
    """Make a backup if the newest is too old, and delete surplus backups. Raises BackupError if it fails.

    The age must be checked: otherwise a service that starts often would only have backups of the last hour.
    """
    folder = settings.backups_path
    if settings.backup_hours == 0 or not making.is_due(folder, settings.backup_hours):
        return
    path, manifest = making.make(settings, database, folder, lambda _step, _done, _of: None)
    log.info(
        "backup_made",
        file=path.name,
        size_bytes=manifest.size_bytes,
        duration_ms=round(manifest.duration_seconds * 1000, 3),
        deleted=making.prune(folder, settings.backup_keep, path),
    )


def declare(broker: RedisBroker, database: Database, settings: Settings) -> None:
    """Declare the actor. A failed backup is tried again with the next message, and is parked if it keeps failing."""
    guard = Guard(database)

    @dramatiq.actor(broker=broker, actor_name=BACK_UP, queue_name=JOBS_QUEUE)
    def look(*_ignored: Any, **_forged: Any) -> None:
        guard.run(Letter(JOBS_QUEUE, BACK_UP), partial(back_up, database, settings))
