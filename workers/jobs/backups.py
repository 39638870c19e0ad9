"""The job that makes backups. It is on the jobs queue, so it never runs during a checkpoint or a verification."""

from pathlib import Path

from core.services import clocks
from core.services.backups import making, shipments
from core.services.backups.manifests import read_manifest
from core.settings import Settings
from core.storage.engines import Engine
from core.telemetry.logging import get_logger
from workers.jobs.job import Job

log = get_logger(__name__)

BACK_UP = "back_up"

LOOK_FOR_BACKUP_SECONDS = 600
"""Longest time between two checks whether a backup is due."""


def back_up(database: Engine, settings: Settings) -> None:
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
        deleted=_prune(database, settings, path),
    )


def _prune(database: Engine, settings: Settings, made: Path) -> int:
    """Delete surplus backups and the shipments that only they need; return how many backups.

    Nothing is deleted while the clock is in doubt, because backups are sorted by the time of the clock.
    """
    with database.reading() as connection:
        if clocks.holds(connection, "the deletion of surplus backups"):
            return 0
    deleted = making.prune(settings.backups_path, settings.backup_keep, made)
    last_capture = read_manifest(made).last_capture
    shipments.prune(settings.backups_path, last_capture and last_capture[0])
    return deleted


# The worker checks whether a backup is due. A failed or interrupted one is tried again soon.
JOBS = (
    Job(
        name=BACK_UP,
        work=back_up,
        every_seconds=lambda settings: min(settings.backup_hours * 3600, LOOK_FOR_BACKUP_SECONDS),
    ),
)
