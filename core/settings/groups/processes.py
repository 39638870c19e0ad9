"""How the processes of one service find and watch each other."""

from pathlib import Path

from pydantic import Field

from core.settings.groups.base import DataFolder


class ProcessSettings(DataFolder):
    """Heartbeats."""

    title = "Processes"

    silent_seconds: float = Field(
        20,
        ge=2,
        description="Age of a heartbeat after which its process counts as lost: `/health` reports it, and the "
        "supervisor restarts it. A process without a first heartbeat gets four times as long.",
    )

    @property
    def run_dir(self) -> Path:
        """The folder of heartbeats, locks and the socket of the embedded queue, absolute."""
        return self.data_dir.absolute() / "run"
