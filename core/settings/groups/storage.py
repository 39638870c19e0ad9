"""Where the ledger is stored."""

from pathlib import Path
from typing import Self
from urllib.parse import quote

from pydantic import Field, model_validator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from core.settings.groups.base import DataFolder


class StorageSettings(DataFolder):
    """The database and its upkeep."""

    title = "Storage"

    database_url: str = Field(
        "",
        validation_alias="DATABASE_URL",
        description="The database: a SQLite file. Default: `sqlite+aiosqlite:///./data/banking.db`, in the data "
        "folder.",
    )
    sqlite_busy_ms: int = Field(5000, ge=0, description="Milliseconds that SQLite waits for a lock.")
    sqlite_cache_mb: int = Field(
        256,
        ge=1,
        description="Largest page cache of a database connection, in megabytes. The reading sessions of the API use "
        "8 at most.",
    )
    checkpoint_minutes: float = Field(
        10, gt=0, description="Time between two checkpoints, which shorten SQLite's write-ahead log."
    )
    disk_free_mb: int = Field(
        200, ge=0, description="Free disk space, in megabytes, below which `/health/ready` answers 503."
    )

    @model_validator(mode="after")
    def _one_database(self) -> Self:
        url = self.database_url or f"sqlite+aiosqlite:///{quote(str(self.data_dir / 'banking.db'))}"
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise ValueError("DATABASE_URL is not a URL like sqlite+aiosqlite:///./data/banking.db") from None
        if parsed.drivername != "sqlite+aiosqlite" or not parsed.database or parsed.database == ":memory:":
            raise ValueError("DATABASE_URL must name a file, as in sqlite+aiosqlite:///./data/banking.db")
        self.__dict__["database_url"] = url
        return self

    @property
    def database_path(self) -> Path:
        """The database file, absolute."""
        database = make_url(self.database_url).database
        assert database is not None, "checked when the settings were read"
        return Path(database).absolute()
