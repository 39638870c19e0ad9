"""Scheduled backups."""

from pathlib import Path

from pydantic import Field

from core.settings.groups.base import DataFolder


class BackupSettings(DataFolder):
    """Where scheduled backups are written, how often, and how many are kept."""

    title = "Backups"

    backup_dir: Path | None = Field(
        None, description="Folder of the scheduled backups. Default: `backups` in the data folder."
    )
    backup_hours: float = Field(
        24,
        ge=0,
        description="Age of the newest backup, in hours, at which the next one is made. The first is made at the "
        "start. `0`: no scheduled backups.",
    )
    backup_keep: int = Field(
        7, ge=1, description="Scheduled backups that are kept. Older ones are deleted after a new one."
    )

    @property
    def backups_path(self) -> Path:
        """The folder of scheduled backups, absolute."""
        return (self.backup_dir or self.data_dir / "backups").absolute()
