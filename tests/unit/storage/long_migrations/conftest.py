"""A large ledger before the long migration. The chunks are small, so that some hundred transfers are many."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core import failpoints
from core.failpoints import StruckError
from core.settings import Settings
from core.storage.sqlite import migrating
from core.storage.sqlite.engine import Database
from tests.old_ledger import REVISION, fill_old_ledger, upgrade
from tests.unit.storage.long_migrations.ledgers import (
    BEFORE,
    BEGUN,
    CHUNK,
    TRANSFERS,
    Content,
    content,
    moved,
    revision,
)


@pytest.fixture(scope="module")
def old_file(tmp_path_factory: pytest.TempPathFactory, shared_settings: Settings) -> Path:
    """A closed database at the last revision before the long migration."""
    folder = tmp_path_factory.mktemp("old")
    url = f"sqlite+aiosqlite:///{folder / 'banking.db'}"
    settings = shared_settings.model_copy(update={"data_dir": folder, "database_url": url})
    upgrade(settings, REVISION)
    fill_old_ledger(settings.database_path, TRANSFERS)
    upgrade(settings, BEFORE)
    return settings.database_path


@pytest.fixture
def ledger(settings: Settings, old_file: Path) -> Path:
    """A copy of that database, as the database of the test."""
    settings.data_dir.mkdir(mode=0o700)
    shutil.copy(old_file, settings.database_path)
    return settings.database_path


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrating, "ROWS", CHUNK)
    monkeypatch.setattr(migrating, "PROGRESS_SECONDS", 0)


@pytest.fixture
def armed() -> Iterator[Callable[[str | None], None]]:
    """Switch failpoints on; after the test they are off again."""
    yield failpoints.arm
    failpoints.arm(None)


@pytest.fixture
def at_once(settings: Settings, old_file: Path, tmp_path: Path) -> Content:
    """Everything in the database after an upgrade in one transaction."""
    path = tmp_path / "at-once" / "banking.db"
    path.parent.mkdir()
    shutil.copy(old_file, path)
    url = f"sqlite+aiosqlite:///{path}"
    upgrade(settings.model_copy(update={"data_dir": path.parent, "database_url": url}), "head")
    return content(path)


@pytest.fixture
def begun(
    settings: Settings, ledger: Path, armed: Callable[[str | None], None], small_chunks: None
) -> Iterator[Database]:
    """A database whose upgrade was interrupted after its first commit."""
    armed("migrate.after_commit=raise")
    with pytest.raises(StruckError):
        upgrade(settings, "head")
    armed(None)
    assert (revision(ledger), moved(ledger)) == (BEGUN, CHUNK)
    database = Database(settings)
    yield database
    database.close()
