"""Verifications and anchors of the ledger."""

from pathlib import Path

from pydantic import Field

from core.settings.groups.base import DataFolder


class VerificationSettings(DataFolder):
    """How often the ledger is verified and anchored."""

    title = "Verification"

    verify_hours: float = Field(
        24, gt=0, description="Hours between two verifications of the whole ledger, across restarts."
    )
    verify_recent_minutes: float = Field(
        15,
        gt=0,
        description="Minutes between two verifications of the newest transfers and of all balances. The first is at "
        "the start.",
    )
    anchor_minutes: float = Field(
        5, gt=0, description="Minutes between two anchors, if any transfer has ended since the last one."
    )
    anchor_file: Path | None = Field(
        None,
        description="File that anchors are appended to. A disk of another machine protects more. Default: "
        "`anchors.jsonl` in the data folder.",
    )
    anchor_stamp_url: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description="Address of a time-stamping authority (RFC 3161) that stamps the newest anchor. Empty: no stamps.",
    )

    @property
    def anchor_path(self) -> Path:
        """The file of anchors, absolute."""
        return (self.anchor_file or self.data_dir / "anchors.jsonl").absolute()
