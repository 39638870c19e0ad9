"""The bases of the groups of settings."""

from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, Field


class SettingsGroup(BaseModel):
    """Fields with defaults, each with a description that `giro settings` and the documentation show."""

    title: ClassVar[str]
    """The heading of the group in the documentation."""

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of the settings that this group adds, in the order of their definition."""
        return [name for name in cls.__annotations__ if name in cls.model_fields]


class DataFolder(SettingsGroup):
    """The data folder, for the groups whose files are in it by default."""

    title = "Data folder"

    data_dir: Path = Field(
        Path("./data"),
        description="Folder of the database, the generated secrets, the sockets and the locks.",
    )
